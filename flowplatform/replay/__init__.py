"""What `manage.py replay` adds to the client's replay: finding the server, or starting one."""
