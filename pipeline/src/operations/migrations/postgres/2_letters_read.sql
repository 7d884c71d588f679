-- How far the index has followed each partition of muster.dead-letters, in which life of it.
create table letters_read (
    partition integer primary key,
    life      text not null,
    next      bigint not null
);
