-- The log: every fact, in one order. The layout is that of the eventsourcing library's application recorder with text
-- originator ids; streams are named `request:…`, `account:…`, `key:…`.

create table events (
    originator_id text collate "C" not null,
    originator_version bigint not null,
    topic text collate "C" not null,
    state bytea not null,
    notification_id bigserial,
    primary key (originator_id, originator_version)
) with (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 100000000,
    autovacuum_vacuum_insert_scale_factor = 0.2,
    autovacuum_vacuum_insert_threshold = 200000,
    autovacuum_analyze_scale_factor = 0.05,
    autovacuum_analyze_threshold = 5000
);

create unique index events_notification_id_idx on events (notification_id);

-- What gateways must know at once (keys, orgs, workspaces, catalog) is tailed apart from what grows with use: requests,
-- money, checks, deliveries, what people write and star. This alone says which streams those are; PostgreSQL puts its
-- body in the place of each call, in indexes and queries alike. Whoever changes it makes the indexes anew.
create function is_configuration(stream text) returns boolean language sql immutable parallel safe as $$
    select stream not like all (array[
        'request:%', 'account:%', 'payment:%', 'document:%', 'redemption:%', 'billing:%', 'dispute:%',
        'check:%', 'alert:%', 'delivery:%', 'collection:%', 'shelf:%', 'star:%'
    ])
$$;

create index events_configuration_idx on events (notification_id) where is_configuration(originator_id);

-- A process that starts reads all that is configured, but of ephemeral keys only those that may live: their mints of all
-- time can be millions, and must not even be passed over.
create index events_standing_idx on events (notification_id)
    where is_configuration(originator_id) and originator_id not like 'ephemeral:%';

create type stored_event_text as (originator_id text, originator_version bigint, topic text, state bytea);

-- History is not rewritten. Whoever owns the table could lift this; the seals show it if they do.
create function refuse_rewriting() returns trigger language plpgsql as $$
begin
    raise exception 'events are immutable: % refused', tg_op using errcode = 'restrict_violation';
end $$;

create trigger events_are_immutable before update or delete on events for each row execute function refuse_rewriting();
create trigger events_are_kept before truncate on events for each statement execute function refuse_rewriting();
