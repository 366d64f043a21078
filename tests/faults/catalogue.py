"""All faults, in the order of the table."""

from tests.faults import broker_faults, crowd_faults, database_faults, process_faults

FAULTS = (*process_faults.FAULTS, *broker_faults.FAULTS, *database_faults.FAULTS, *crowd_faults.FAULTS)
