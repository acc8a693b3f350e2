-- One batch of ledger commands in one round trip and one transaction. No lock is held while a client has to run.
-- The rules are those of domain/ledger/guards.py; a property test drives both with the same interleavings.
--
-- Order inside a batch: ends (settle, release, expire), then extensions, then holds, then notes; each list in arrival
-- order. Answers only what did not succeed: the list, the index in that list, a code, and two amounts that explain it.
-- A repeat of the ending that is recorded already, byte for byte, is a success. With `end_before` only holds whose
-- deadline is earlier are ended.
--
-- Every hold counts against its key and its workspace, in its month. Few count against a further allowance too, which
-- knows no months, so its month is 0: `hold_allowance` says which, '' being none, and may be empty if none of them does.
--
-- Plans are made once and kept, perhaps on tables that are still empty. No table may ever be read as a whole, not even
-- along its index: so keys are compared with `= any(array[…])`, which an index can look up and no join can turn round, or
-- in scalar sub-selects; a test looks at the plans.

create function ledger_commit(
    in_month int, in_day int,
    hold_request text[], hold_org text[], hold_key text[], hold_workspace text[], hold_amount bigint[],
    hold_expires bigint[], hold_state bytea[], hold_topic text, hold_allowance text[],
    end_request text[], end_held bigint[], end_cost bigint[], end_topic text[], end_state bytea[],
    more_request text[], more_amount bigint[], more_expires bigint[], more_state bytea[], more_topic text,
    note_request text[], note_topic text[], note_state bytea[],
    end_before bigint default null
) returns table (list text, i int, code text, a bigint, b bigint)
language plpgsql
set enable_seqscan = off set enable_indexonlyscan = off
set enable_hashjoin = off set enable_mergejoin = off set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
    done int[];
    crowded text[];
    r record;
    h record;
    g record;
begin
    perform pg_advisory_xact_lock(7301);

    if cardinality(end_request) > 0 then
        with e as materialized (
            select * from unnest(end_request, end_held, end_cost, end_topic, end_state)
                with ordinality u (request, held, cost, topic, state, i)
        ), gone as (
            delete from hold h using e
            where h.request = any(array[e.request]) and h.amount = e.held and e.cost between 0 and e.held
                and (end_before is null or h.expires < end_before)
            returning e.i, e.cost, e.topic, e.state,
                h.request, h.org, h.key, h.workspace, h.allowance, h.month, h.amount, h.version
        ), recorded as (
            insert into events (originator_id, originator_version, topic, state)
            select 'request:' || request, version + 1, topic, state from gone order by i
        ), balanced as (
            update balance t set
                available = t.available + d.amount - d.cost, held = t.held - d.amount, spent = t.spent + d.cost
            from (select org, sum(cost)::bigint cost, sum(amount)::bigint amount from gone group by org) d
            where t.org = any(array[d.org])
        ), allowed as (
            update allowance t set used = t.used + d.cost, held = t.held - d.amount
            from (
                select s.scope, s.month, sum(cost)::bigint cost, sum(amount)::bigint amount
                from gone, unnest(array[key, workspace, allowance], array[month, month, 0]) s (scope, month)
                where s.scope <> '' group by s.scope, s.month
            ) d
            where t.scope = any(array[d.scope]) and t.month = d.month
        )
        select coalesce(array_agg(i::int), '{}') into done from gone;
        if cardinality(done) < cardinality(end_request) then
            for r in
                select * from unnest(end_request, end_held, end_cost, end_topic, end_state)
                    with ordinality u (request, held, cost, topic, state, i)
                where i <> all(done) order by i
            loop
                list := 'end'; i := r.i; a := null; b := r.cost;
                select * into h from hold t where t.request = r.request;
                if found then
                    code := case when r.cost between 0 and h.amount and r.held <> h.amount then 'held' else 'over' end;
                    a := h.amount;
                    return next;
                elsif not exists (
                    select from events t where t.originator_id = 'request:' || r.request and t.originator_version > 1
                        and t.topic = r.topic and t.state = r.state
                ) then
                    code := 'ended'; return next;
                end if;
            end loop;
        end if;
    end if;

    if cardinality(more_request) > 0 then
        for r in
            select * from unnest(more_request, more_amount, more_expires, more_state)
                with ordinality u (request, amount, expires, state, i)
            order by i
        loop
            list := 'more'; i := r.i; code := null; a := null; b := null;
            select * into h from hold t where t.request = r.request;
            if not found then code := 'ended'; return next; continue; end if;
            for g in
                select t.* from unnest(array[h.allowance, h.key, h.workspace], array[0, h.month, h.month])
                    with ordinality u (scope, month, n), allowance t
                where t.scope = any(array[u.scope]) and t.month = u.month order by u.n
            loop
                if r.amount > 0 and g.used + g.held + r.amount > g.budget then
                    code := case g.scope when h.allowance then 'ephemeral_budget' when h.key then 'key_budget'
                        else 'workspace_budget' end;
                    a := g.budget; b := g.used + g.held;
                    exit;
                end if;
            end loop;
            if code is null then
                update balance t set available = t.available - r.amount, held = t.held + r.amount
                    where t.org = h.org and t.available >= r.amount;
                if not found then
                    code := 'insufficient_credits';
                    select t.available, t.held into a, b from balance t where t.org = h.org;
                end if;
            end if;
            if code is not null then return next; continue; end if;
            update allowance t set held = t.held + r.amount
                where (t.scope in (h.key, h.workspace) and t.month = h.month) or t.scope = h.allowance;
            update hold t set amount = t.amount + r.amount, expires = r.expires, version = t.version + 1
                where t.request = r.request;
            insert into events (originator_id, originator_version, topic, state)
                values ('request:' || r.request, h.version + 1, more_topic, r.state);
        end loop;
    end if;

    if cardinality(hold_request) > 0 then
        with c as materialized (
            select * from unnest(
                hold_request, hold_org, hold_key, hold_workspace, hold_amount, hold_expires, hold_state, hold_allowance
            ) with ordinality u (request, org, key, workspace, amount, expires, state, allowance, i)
        ), late as materialized (   -- an org in which anything at all might not fit goes the exact way
            select org from (select org, sum(amount)::bigint amount from c group by org) z
                where coalesce((select t.available < z.amount from balance t where t.org = z.org), true)
            union all
            select org from (
                select org, s.scope, s.month, sum(amount)::bigint amount, count(*) calls
                from c, unnest(array[key, workspace, allowance], array[in_month, in_month, 0]) s (scope, month)
                where s.scope <> '' group by org, s.scope, s.month
            ) z
            where coalesce((
                select t.month > z.month or t.day > in_day
                    or coalesce(case when t.month = z.month then t.used + t.held else 0 end + z.amount > t.budget, false)
                    or coalesce(case when t.day = in_day then t.calls else 0 end + z.calls > t.daily, false)
                from allowance t where t.scope = z.scope), true)
            union all
            select org from c where coalesce((
                select true from events t where t.originator_id = 'request:' || c.request and t.originator_version = 1), false)
            union all
            select unnest(array_agg(org)) from c group by request having count(*) > 1
        ), fit as materialized (
            select * from c where org <> all(array(select org from late))
        ), kept as (
            insert into hold
            select request, org, key, workspace, in_month, amount, expires, 1, nullif(allowance, '') from fit
        ), recorded as (
            insert into events (originator_id, originator_version, topic, state)
            select 'request:' || request, 1, hold_topic, state from fit order by i
        ), balanced as (
            update balance t set available = t.available - d.amount, held = t.held + d.amount
            from (select org, sum(amount)::bigint amount from fit group by org) d where t.org = any(array[d.org])
        ), allowed as (
            update allowance t set
                used = case when t.month = d.month then t.used else 0 end,
                held = case when t.month = d.month then t.held else 0 end + d.amount,
                calls = case when t.day = in_day then t.calls else 0 end + d.calls,
                month = d.month, day = in_day
            from (
                select s.scope, s.month, sum(amount)::bigint amount, count(*) calls
                from fit, unnest(array[key, workspace, allowance], array[in_month, in_month, 0]) s (scope, month)
                where s.scope <> '' group by s.scope, s.month
            ) d
            where t.scope = any(array[d.scope])
        )
        select array(select distinct org from late) into crowded;

        if cardinality(crowded) > 0 then
            for r in
                select * from unnest(
                    hold_request, hold_org, hold_key, hold_workspace, hold_amount, hold_expires, hold_state, hold_allowance
                ) with ordinality u (request, org, key, workspace, amount, expires, state, allowance, i)
                where org = any(crowded) order by i
            loop
                list := 'hold'; i := r.i; code := null; a := null; b := null;
                if exists (
                    select from events t where t.originator_id = 'request:' || r.request and t.originator_version = 1
                ) then
                    code := 'duplicate'; return next; continue;
                end if;
                for g in
                    select t.*, u.of,
                        case when t.month = u.month then t.used + t.held else 0 end as spent,
                        case when t.day = in_day then t.calls else 0 end as today,
                        t.month > u.month or t.day > in_day as early
                    from unnest(
                        array[r.allowance, r.key, r.workspace], array['ephemeral', 'key', 'workspace'],
                        array[0, in_month, in_month]
                    ) u (scope, of, month)
                    left join allowance t on t.scope = any(array[u.scope]) where u.scope <> '' order by u.of
                loop
                    if g.scope is null then code := 'unknown';
                    elsif g.early then code := 'period';
                    elsif g.today + 1 > g.daily then
                        code := case g.of when 'ephemeral' then 'trial_daily' else 'daily' end; a := g.daily; b := g.today;
                    elsif g.spent + r.amount > g.budget then code := g.of || '_budget'; a := g.budget; b := g.spent;
                    end if;
                    exit when code is not null;
                end loop;
                if code is null then
                    update balance t set available = t.available - r.amount, held = t.held + r.amount
                        where t.org = r.org and t.available >= r.amount;
                    if not found then
                        code := 'insufficient_credits';
                        select t.available, t.held into a, b from balance t where t.org = r.org;
                    end if;
                end if;
                if code is not null then return next; continue; end if;
                update allowance t set
                    used = case when t.month = u.month then t.used else 0 end,
                    held = case when t.month = u.month then t.held else 0 end + r.amount,
                    calls = case when t.day = in_day then t.calls else 0 end + 1,
                    month = u.month, day = in_day
                    from unnest(array[r.key, r.workspace, r.allowance], array[in_month, in_month, 0]) u (scope, month)
                    where t.scope = any(array[u.scope]);
                insert into hold
                    values (r.request, r.org, r.key, r.workspace, in_month, r.amount, r.expires, 1, nullif(r.allowance, ''));
                insert into events (originator_id, originator_version, topic, state)
                    values ('request:' || r.request, 1, hold_topic, r.state);
            end loop;
        end if;
    end if;

    if cardinality(note_request) > 0 then
        insert into events (originator_id, originator_version, topic, state)
            select 'request:' || request, 1, topic, state
            from unnest(note_request, note_topic, note_state) with ordinality u (request, topic, state, i) order by i
            on conflict do nothing;
    end if;
end $$;
