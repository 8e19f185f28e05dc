-- expect: unterminated
select 1 /* abc
