for i = 1, 20000 do
    redis.call('SET', 'string' .. i, string.rep('x', i % 700))
    redis.call('HSET', 'hash' .. i % 97, 'field' .. i, i * 7)
    redis.call('RPUSH', 'list' .. i % 31, string.rep('y', i % 90))
    redis.call('ZADD', 'sorted' .. i % 13, i * 31 % 1009, 'member' .. i)
    if i % 5 == 0 then redis.call('DEL', 'string' .. i - 3) end
end
return redis.call('DBSIZE')
