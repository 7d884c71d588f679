-- Who may export: keys are here as keyed hashes alone. Not history: a token that is lost has to be given anew.
create table tokens (
    id      text primary key,
    label   text not null unique,
    hash    text not null unique,
    scopes  text not null,
    created text not null,
    expires text,
    revoked text
);

-- Who exported what. Labels are as they were then.
create table exports (
    id         text primary key,
    token      text not null,
    label      text not null,
    resource   text not null,
    depth      integer,
    form       text not null,
    coding     text not null,
    generation integer not null,
    expected   integer not null,
    began      text not null,
    ended      text,
    bytes      integer,
    status     text,
    request    text not null
);
create index exports_by_token on exports (token, began);
create index exports_by_time on exports (began);
