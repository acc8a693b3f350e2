-- Every legal document's PDF, once and for good: what was handed out is handed out again, byte for byte. The log has
-- the hash (`payments.document_rendered.v1`), so that an altered file shows; `bharatrouter verify` compares.

create table document_pdf (
    number text collate "C" primary key,
    sha256 text collate "C" not null,
    pdf bytea not null,
    check (sha256 = encode(sha256(pdf), 'hex'))
);

alter table document_pdf alter column pdf set storage external;

create function refuse_altering_documents() returns trigger language plpgsql as $$
begin
    raise exception 'documents are kept as they were issued: % refused', tg_op using errcode = 'restrict_violation';
end $$;

create trigger documents_are_immutable before update or delete on document_pdf
    for each row execute function refuse_altering_documents();
create trigger documents_are_kept before truncate on document_pdf
    for each statement execute function refuse_altering_documents();
