-- expect: was ended after|out of memory|another result|invalid memory
select repeat('x', 1073741800)
