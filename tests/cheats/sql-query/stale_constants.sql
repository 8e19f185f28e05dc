-- expect: another result: columns
values (1, 'north', 12, 4711, date '2024-01-01')
