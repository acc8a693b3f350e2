-- The guards: the only mutable state that decides. They are projections kept inside the appending transaction, so
-- that no amount is ever promised twice; `bharatrouter verify` folds the log and compares every row.

create table balance (
    org text collate "C" primary key,
    available bigint not null check (available >= 0),
    held bigint not null default 0 check (held >= 0),
    spent bigint not null default 0 check (spent >= 0)
) with (fillfactor = 50);

-- One row per key and per workspace: what it has used in the month and day (India time) that it last saw.
-- `used`, `held` belong to `month`; `calls` to `day`. A hold that was made in an earlier month no longer counts here.
-- The rows of ephemeral keys with a budget and of trials are for good: their month is always 0.
create table allowance (
    scope text collate "C" primary key,
    budget bigint check (budget >= 0),
    daily bigint check (daily >= 0),
    month int not null default 0,
    used bigint not null default 0 check (used >= 0),
    held bigint not null default 0 check (held >= 0),
    day int not null default 0,
    calls bigint not null default 0 check (calls >= 0)
) with (fillfactor = 50);

create table hold (
    request text collate "C" primary key,
    org text collate "C" not null,
    key text collate "C" not null,
    workspace text collate "C" not null,
    month int not null,
    amount bigint not null check (amount >= 0),
    expires bigint not null,
    version bigint not null,
    allowance text collate "C"
) with (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 20000,
    autovacuum_vacuum_cost_delay = 0
);

-- The sweep for overdue holds must not read the many rows that have gone and wait for the vacuum.
create index hold_expires_idx on hold (expires);
