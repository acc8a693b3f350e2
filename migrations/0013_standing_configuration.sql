-- A process that starts reads all that is configured, but of ephemeral keys only those that may live: their mints of all
-- time can be millions, and must not even be passed over.
create index events_standing_idx on events (notification_id)
    where originator_id not like 'request:%' and originator_id not like 'account:%'
    and originator_id not like 'payment:%' and originator_id not like 'document:%'
    and originator_id not like 'redemption:%' and originator_id not like 'billing:%'
    and originator_id not like 'dispute:%' and originator_id not like 'check:%'
    and originator_id not like 'alert:%' and originator_id not like 'delivery:%'
    and originator_id not like 'collection:%' and originator_id not like 'shelf:%'
    and originator_id not like 'star:%' and originator_id not like 'ephemeral:%';
