"""What the model is told about the query to rewrite, and where runs start."""

FULL = """\
Rewrite a slow Postgres query so that it runs faster and returns the same result.

The tables (no other indexes than the primary keys; about {customers} customers and ten times as
many orders):

    customers (id int primary key, region text not null, joined date not null)
    orders (id int primary key, customer_id int not null, status text not null, placed date,
        cents int)

customer_id refers to customers.id; some customers have no orders; placed and cents may be null.
The query:

{query}
Answer with one query in a fenced block marked `text` or `sql`. It must return the same columns
(names, types, order) and the same rows, duplicates included, in any order, also on other data of
the same schema. It runs alone as a read-only role: one select (or with), no settings, no temporary
tables, no volatile functions, no catalog. What counts is its median runtime in milliseconds,
measured in alternation with the query above, each on a fresh connection after one warm-up.
"""

BRIEF = """\
Tables: customers (id, region), orders (customer_id, status, placed, cents). The query below is
slow: write a faster one with the same result. Lower runtime is better.
"""

# The model completes the join and closes the block: about twenty tokens.
OPENING = """\
```sql
with p as (
    select customer_id, count(*) filter (where status = 'paid') as orders,
        coalesce(sum(cents) filter (where status = 'paid'), 0) as cents, max(placed) as last_order
    from orders group by customer_id)
select c.id, c.region, p.orders, p.cents, p.last_order from customers c"""
