"""What people and programs may do, and every change of that, is in the audit record: whatever way it is changed.

Triggers write it, in the transaction of the change. `flowplatform.audit.writing.acting` says in whose name.
"""

from typing import ClassVar

from django.db import migrations
from django.db.migrations.operations.base import Operation

USERS = """
CREATE FUNCTION accounts_record_user() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    person accounts_user := coalesce(NEW, OLD);
    flags text[] := '{username,is_active,is_staff,is_superuser}';
    details jsonb;
BEGIN
    IF TG_OP <> 'UPDATE' THEN
        SELECT jsonb_object_agg(name, to_jsonb(person)->name) INTO details FROM unnest(flags) AS name;
        PERFORM audit_add(
            CASE TG_OP WHEN 'INSERT' THEN 'user.created' ELSE 'user.deleted' END,
            NULL, 'user', person.id::text, person.username, details
        );
        RETURN NULL;
    END IF;
    details := audit_difference(to_jsonb(OLD), to_jsonb(NEW), flags);
    IF details <> '{}' THEN
        PERFORM audit_add('user.changed', NULL, 'user', person.id::text, person.username, details);
    END IF;
    IF OLD.password <> NEW.password THEN
        PERFORM audit_add('user.password_changed', NULL, 'user', person.id::text, person.username, '{}');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER user_is_recorded
    AFTER INSERT OR DELETE OR UPDATE OF username, password, is_active, is_staff, is_superuser ON accounts_user
    FOR EACH ROW EXECUTE FUNCTION accounts_record_user();
"""

# A member's user and organization may be changed in the admin: then somebody left, and somebody came.
MEMBERS = """
CREATE FUNCTION accounts_record_membership() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    stays boolean := TG_OP = 'UPDATE' AND OLD.user_id = NEW.user_id AND OLD.organization_id = NEW.organization_id;
BEGIN
    IF stays THEN
        IF OLD.role <> NEW.role THEN
            PERFORM accounts_add_member('member.changed', NEW, jsonb_build_object('from', OLD.role, 'to', NEW.role));
        END IF;
        RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        PERFORM accounts_add_member('member.removed', OLD, to_jsonb(OLD.role));
    END IF;
    IF TG_OP <> 'DELETE' THEN
        PERFORM accounts_add_member('member.added', NEW, to_jsonb(NEW.role));
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION accounts_add_member(action text, member accounts_membership, role jsonb) RETURNS void LANGUAGE sql AS $$
    SELECT audit_add(
        action, member.organization_id, 'user', member.user_id::text,
        coalesce((SELECT username FROM accounts_user WHERE id = member.user_id), ''), jsonb_build_object('role', role)
    )
$$;
CREATE TRIGGER membership_is_recorded AFTER INSERT OR DELETE OR UPDATE ON accounts_membership
    FOR EACH ROW EXECUTE FUNCTION accounts_record_membership();
"""

# Organizations, service accounts and groups of staff: a name, and perhaps something else. The arguments of the trigger
# are what it is called in the record, the column of its organization, and those that are told.
NAMED = """
CREATE FUNCTION accounts_record_named() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    thing jsonb := to_jsonb(coalesce(NEW, OLD));
    details jsonb := '{}';
BEGIN
    IF TG_OP = 'UPDATE' THEN
        details := audit_difference(to_jsonb(OLD), to_jsonb(NEW), TG_ARGV[2]::text[]);
        IF details = '{}' THEN
            RETURN NULL;
        END IF;
    END IF;
    PERFORM audit_add(
        TG_ARGV[0] || CASE TG_OP WHEN 'INSERT' THEN '.created' WHEN 'UPDATE' THEN '.changed' ELSE '.deleted' END,
        (thing->>TG_ARGV[1])::uuid, TG_ARGV[0], thing->>'id', thing->>'name', details
    );
    RETURN NULL;
END $$;
CREATE TRIGGER organization_is_recorded AFTER INSERT OR DELETE OR UPDATE ON accounts_organization
    FOR EACH ROW EXECUTE FUNCTION accounts_record_named('organization', 'id', '{slug,name}');
CREATE TRIGGER service_account_is_recorded AFTER INSERT OR DELETE OR UPDATE ON accounts_serviceaccount
    FOR EACH ROW EXECUTE FUNCTION accounts_record_named('service_account', 'organization_id', '{name,organization_id}');
CREATE TRIGGER staff_group_is_recorded AFTER INSERT OR DELETE OR UPDATE ON auth_group
    FOR EACH ROW EXECUTE FUNCTION accounts_record_named('staff_group', '', '{name}');
"""

# A token is named by its prefix: its key contains the hash. Its last use is no change.
TOKENS = """
CREATE FUNCTION accounts_record_token() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    token accounts_servicetoken := coalesce(NEW, OLD);
    account accounts_serviceaccount;
    facts text[] := '{scopes,expiry_date}';
    action text := CASE TG_OP WHEN 'INSERT' THEN 'token.created' WHEN 'UPDATE' THEN 'token.changed'
                   ELSE 'token.deleted' END;
    details jsonb;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        details := audit_difference(to_jsonb(OLD), to_jsonb(NEW), facts || '{service_account_id,revoked}');
        IF details = '{}' THEN
            RETURN NULL;
        END IF;
        IF NEW.revoked AND NOT OLD.revoked THEN
            action := 'token.revoked';
            details := details - 'revoked';
        END IF;
    ELSE
        SELECT jsonb_object_agg(name, to_jsonb(token)->name) INTO details FROM unnest(facts) AS name;
    END IF;
    SELECT * INTO account FROM accounts_serviceaccount WHERE id = token.service_account_id;
    PERFORM audit_add(
        action, account.organization_id, 'service_token', token.prefix, coalesce(account.name, token.name), details
    );
    RETURN NULL;
END $$;
CREATE TRIGGER service_token_is_recorded
    AFTER INSERT OR DELETE OR UPDATE OF service_account_id, scopes, expiry_date, revoked ON accounts_servicetoken
    FOR EACH ROW EXECUTE FUNCTION accounts_record_token();
"""

# What staff may do: permissions and groups of users, permissions of groups. A statement may give many, which is one
# record. The arguments are the changed thing's name in the record, its table, its column and the one of its text, and
# what it is given: a word, table, column and the column of its text.
GIVEN = """
CREATE FUNCTION accounts_record_given() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format(
        'SELECT audit_add(%L, NULL, %L, owner.id::text, owner.%I, jsonb_build_object(%L, jsonb_agg(given.%I ORDER BY given.%I)))
         FROM changed JOIN %I AS owner ON owner.id = changed.%I JOIN %I AS given ON given.id = changed.%I
         GROUP BY owner.id',
        TG_ARGV[0] || '.changed', TG_ARGV[0], TG_ARGV[3],
        TG_ARGV[4] || CASE TG_OP WHEN 'INSERT' THEN '_added' ELSE '_removed' END, TG_ARGV[7], TG_ARGV[7],
        TG_ARGV[1], TG_ARGV[2], TG_ARGV[5], TG_ARGV[6]
    );
    RETURN NULL;
END $$;
"""
_GIVEN = (
    (
        "accounts_user_groups",
        "'user', 'accounts_user', 'user_id', 'username', 'groups', 'auth_group', 'group_id', 'name'",
    ),
    (
        "accounts_user_user_permissions",
        "'user', 'accounts_user', 'user_id', 'username', 'permissions', 'auth_permission', 'permission_id', 'codename'",
    ),
    (
        "auth_group_permissions",
        "'staff_group', 'auth_group', 'group_id', 'name',"
        " 'permissions', 'auth_permission', 'permission_id', 'codename'",
    ),
)
GIVING = "".join(
    f"""
CREATE TRIGGER {name} AFTER {event} ON {table} REFERENCING {version} TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION accounts_record_given({arguments});
"""
    for table, arguments in _GIVEN
    for name, event, version in (("what_is_given", "INSERT", "NEW"), ("what_is_taken", "DELETE", "OLD"))
)

UNDO = """
DROP FUNCTION accounts_record_user() CASCADE;
DROP FUNCTION accounts_record_membership() CASCADE;
DROP FUNCTION accounts_add_member(text, accounts_membership, jsonb);
DROP FUNCTION accounts_record_named() CASCADE;
DROP FUNCTION accounts_record_token() CASCADE;
DROP FUNCTION accounts_record_given() CASCADE;
"""


class Migration(migrations.Migration):
    """Triggers on users, members, organizations, accounts, tokens, staff groups and permissions."""

    dependencies: ClassVar[list[tuple[str, str]]] = [
        ("accounts", "0002_row_security"),
        ("audit", "0001_initial"),
        ("auth", "0012_alter_user_first_name_max_length"),
    ]
    operations: ClassVar[list[Operation]] = [migrations.RunSQL(USERS + MEMBERS + NAMED + TOKENS + GIVEN + GIVING, UNDO)]
