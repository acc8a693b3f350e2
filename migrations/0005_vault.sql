-- One random key per subject (an org, a person), itself sealed by the installation's master key. What is sealed under it
-- in the log becomes unreadable for ever when the row is deleted; the books stay.

create table vault_key (
    subject text collate "C" primary key,
    sealed bytea not null
);
