-- The hashes under each sealed block, 40 bytes an event: its position and its leaf. They are no evidence by themselves
-- (the sealed root is); they say which event of a broken block was touched, and give any event its path to the root.

create table seal_leaves (
    number bigint primary key,
    leaves bytea not null
);

alter table seal_leaves alter column leaves set storage external;
