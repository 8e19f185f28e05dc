-- The schema and data of the bundled query problem. {seed} and {customers} are whole numbers.
create table customers (id int primary key, region text not null, joined date not null);
create table orders (
    id int primary key, customer_id int not null, status text not null, placed date, cents int
);

insert into customers
select i, (array['north', 'south', 'east', 'west'])[1 + (hashint8extended(i, {seed}) & 3)::int],
    date '2020-01-01' + (hashint8extended(i, {seed} + 1) & 1023)::int
from generate_series(1, {customers}) as i;

-- A few customers have most orders, some have none; one order in 32 has no date or no amount.
insert into orders
select i,
    1 + floor({customers} * power((hashint8extended(i, {seed} + 2) & 65535) / 65536.0, 2))::int,
    (array['paid', 'paid', 'open', 'refunded'])[1 + (hashint8extended(i, {seed} + 3) & 3)::int],
    case when hashint8extended(i, {seed} + 4) & 31 <> 0
        then date '2023-01-01' + (hashint8extended(i, {seed} + 5) & 511)::int end,
    case when hashint8extended(i, {seed} + 6) & 31 <> 0
        then 100 + (hashint8extended(i, {seed} + 7) & 8191)::int end
from generate_series(1, 10 * {customers}) as i;
