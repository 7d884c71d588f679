-- Who may export: keys are here as keyed hashes alone. Not history: a token that is lost has to be given anew.
create table tokens (
    id      text primary key,
    label   text not null unique,
    hash    text not null unique,
    scopes  text not null,
    created timestamptz not null,
    expires timestamptz,
    revoked timestamptz
);

-- Who exported what. Labels are as they were then.
create table exports (
    id         text primary key,
    token      text not null,
    label      text not null,
    resource   text not null,
    depth      bigint,
    form       text not null,
    coding     text not null,
    generation bigint not null,
    expected   bigint not null,
    began      timestamptz not null,
    ended      timestamptz,
    bytes      bigint,
    status     text,
    request    text not null
);
create index exports_by_token on exports (token, began);
create index exports_by_time on exports (began);
