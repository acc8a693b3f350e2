-- An org's configuration spans streams (its own, its workspaces', its keys'), and rules such as "names are unique" hold
-- across them. This index reads it as one history; refuse_stale keeps a decision from resting on an older one.

create function org_of(stream text, state bytea) returns text language sql immutable strict parallel safe as $$
    select case when stream like 'org:%' then substr(stream, 5) else convert_from(state, 'UTF8')::json ->> 'org' end
$$;

create index events_org_idx on events (org_of(originator_id, state), notification_id)
    where is_configuration(originator_id);

-- To be called under the lock of the log. The error is that of a version conflict, which is what it means.
create function refuse_stale(org text, seen bigint) returns void language plpgsql as $$
begin
    if exists (
        select from events
        where org_of(originator_id, state) = org and notification_id > seen
            and is_configuration(originator_id)
    ) then
        raise exception 'org % has changed since position %', org, seen using errcode = 'unique_violation';
    end if;
end $$;
