-- expect: unterminated
select 'abc
