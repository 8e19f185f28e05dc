-- expect: not 'listen'
listen channel
