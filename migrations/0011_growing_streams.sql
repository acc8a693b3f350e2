-- What checks find, what alerts say, what becomes of webhooks, and what people write about collections and star grows
-- with use, as calls and money do: neither the directory of each process nor a change of an org may have to pass over
-- it. The same indexes and rule as before, with these streams left out too.

drop index events_configuration_idx;
create index events_configuration_idx on events (notification_id)
    where originator_id not like 'request:%' and originator_id not like 'account:%'
    and originator_id not like 'payment:%' and originator_id not like 'document:%'
    and originator_id not like 'redemption:%' and originator_id not like 'billing:%'
    and originator_id not like 'dispute:%' and originator_id not like 'check:%'
    and originator_id not like 'alert:%' and originator_id not like 'delivery:%'
    and originator_id not like 'collection:%' and originator_id not like 'shelf:%'
    and originator_id not like 'star:%';

drop index events_org_idx;
create index events_org_idx on events (org_of(originator_id, state), notification_id)
    where originator_id not like 'request:%' and originator_id not like 'account:%'
    and originator_id not like 'payment:%' and originator_id not like 'document:%'
    and originator_id not like 'redemption:%' and originator_id not like 'billing:%'
    and originator_id not like 'dispute:%' and originator_id not like 'check:%'
    and originator_id not like 'alert:%' and originator_id not like 'delivery:%'
    and originator_id not like 'collection:%' and originator_id not like 'shelf:%'
    and originator_id not like 'star:%';

create or replace function refuse_stale(org text, seen bigint) returns void language plpgsql as $$
begin
    if exists (
        select from events
        where org_of(originator_id, state) = org and notification_id > seen
            and originator_id not like 'request:%' and originator_id not like 'account:%'
            and originator_id not like 'payment:%' and originator_id not like 'document:%'
            and originator_id not like 'redemption:%' and originator_id not like 'billing:%'
            and originator_id not like 'dispute:%' and originator_id not like 'check:%'
            and originator_id not like 'alert:%' and originator_id not like 'delivery:%'
            and originator_id not like 'collection:%' and originator_id not like 'shelf:%'
            and originator_id not like 'star:%'
    ) then
        raise exception 'org % has changed since position %', org, seen using errcode = 'unique_violation';
    end if;
end $$;
