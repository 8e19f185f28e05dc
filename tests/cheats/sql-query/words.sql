-- expect: syntax error|does not exist|another result
with all due respect, the query is fast
