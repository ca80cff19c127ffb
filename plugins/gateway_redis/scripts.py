"""The four operations on an entry, as Lua scripts that the server runs atomically.

An entry is one hash; `gateway.cache.contract` says what it means. Its fields: `s` since; `v` value, `m` its mark, `x`
until when; `t` lease token, `l` until when; `f` floor, `g` until when; `!TOKEN` until when a writer's fence stands,
with an `s` behind it once it was shared, and `w` until when the last of them does. Moments are milliseconds of the
server's clock.

What matters about how they are written:

* `#!lua` makes a server refuse them while it is a replica, and while it is full unless the script says `allow-oom`.
  So no replica ever serves a value, and a full server still takes a writer's fence.
* The first argument is the *life* of the database: a random text under the second key. A database that was emptied
  has lost it, and with it fences of writes under way, so that nothing is done before everybody knows. A cluster
  cannot look at two keys at once, and a server that evicts could evict this one: there the argument is empty, and
  what protects is the entries' probation.
* An entry's expiry is only ever prolonged (`GT`), so that it outlives whatever it holds.
* A fence that was never shared is the only one, so that its end need not look for others; `w` is there exactly while
  a fence is, run out or not.
* Marks are compared byte by byte, because Lua's `<` follows the server's locale.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha1
from typing import Final, NamedTuple

__all__ = ["ALL", "BEGIN", "END", "FILL", "GET", "LIFE", "LIFT", "MOVED", "Call", "Script"]

MOVED: Final = 9
"""What every script answers when the database's life is another; nothing was done."""

_COMMON: Final = """
local key, prob = KEYS[1], tonumber(ARGV[2])
if ARGV[1] ~= '' and redis.call('GET', KEYS[2]) ~= ARGV[1] then return 9 end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local function ahead(moment) return moment and tonumber(moment:match('^%d+')) > now end
local function below(one, two)
  if #one ~= #two then return #one < #two end
  for at = 1, #one do
    local a, b = one:byte(at), two:byte(at)
    if a ~= b then return a < b end
  end
  return false
end
local function keep(ms, made)
  ms = math.max(ms, 2 * prob)
  if made then redis.call('PEXPIRE', key, ms) else redis.call('PEXPIRE', key, ms, 'GT') end
end
"""

_FENCES: Final = """
local function standing()
  local found, last = {}, 0
  for _, name in ipairs(redis.call('HKEYS', key)) do
    if name:sub(1, 1) == '!' then
      local until_when = redis.call('HGET', key, name)
      if ahead(until_when) then
        found[name] = until_when
        last = math.max(last, tonumber(until_when:match('^%d+')))
      else
        redis.call('HDEL', key, name)
      end
    end
  end
  if last > 0 then redis.call('HSET', key, 'w', last) else redis.call('HDEL', key, 'w') end
  return found
end
local function shared(fence) return fence:sub(-1) == 's' end
"""

_GET: Final = """
local e = redis.call('HMGET', key, 's', 'w', 'v', 'x', 'l')
local lease = tonumber(ARGV[4])
if not e[1] then
  if prob > 0 then
    redis.call('HSET', key, 's', now)
    keep(lease, true)
    return 3
  end
  redis.call('HSET', key, 's', now, 't', ARGV[3], 'l', now + lease)
  keep(lease, true)
  return 1
end
if prob > 0 and redis.call('PTTL', key) < 2 * prob then redis.call('PEXPIRE', key, 3 * prob) end
if ahead(e[2]) then return 3 end
if prob > 0 and now - tonumber(e[1]) < prob then return 3 end
if e[3] and ahead(e[4]) then return e[3] end
if ahead(e[5]) then return 2 end
redis.call('HSET', key, 't', ARGV[3], 'l', now + lease)
keep(lease)
return 1
"""

_FILL: Final = """
local e = redis.call('HMGET', key, 't', 'l', 'w', 'f', 'g')
if e[1] ~= ARGV[3] then return 0 end
redis.call('HDEL', key, 't', 'l')
if not ahead(e[2]) or ahead(e[3]) then return 0 end
if ahead(e[5]) and below(ARGV[5], e[4]) then return 0 end
redis.call('HSET', key, 'v', ARGV[6], 'm', ARGV[5], 'x', now + tonumber(ARGV[4]))
keep(tonumber(ARGV[4]))
return 1
"""

_BEGIN: Final = """
local own = '!' .. ARGV[3]
local e = redis.call('HMGET', key, 's', 'w', own)
local fence = string.format('%.0f', now + tonumber(ARGV[4]))
if e[1] then
  redis.call('HDEL', key, 'v', 'm', 'x', 't', 'l')
else
  redis.call('HSET', key, 's', now)
end
if e[2] then
  if ahead(e[3]) and shared(e[3]) then fence = fence .. 's' end
  redis.call('HSET', key, own, fence)
  local found = standing()
  if next(found, next(found)) then
    for name, one in pairs(found) do
      if not shared(one) then redis.call('HSET', key, name, one .. 's') end
    end
  end
else
  redis.call('HSET', key, own, fence, 'w', fence)
end
keep(tonumber(ARGV[4]), not e[1])
return 0
"""

_END: Final = """
local own, mark = '!' .. ARGV[3], ARGV[4]
local e = redis.call('HMGET', key, 's', own, 'f', 'g')
local there, since = ahead(e[2]), tonumber(e[1] or now)
if not e[1] and mark == '' then return 2 end
local alone = there and not shared(e[2])
if alone then
  redis.call('HDEL', key, own, 'w')
elseif e[1] then
  redis.call('HDEL', key, own)
  if not there then redis.call('HDEL', key, 'v', 'm', 'x', 't', 'l') end
  standing()
end
if mark == '' then return there and 0 or 2 end
local lower = ahead(e[4]) and below(mark, e[3])
local floor = tonumber(ARGV[5])
local words = {'f', lower and e[3] or mark, 'g', now + floor}
local stored = ARGV[6] ~= '' and alone and not lower and now - since >= prob
if not e[1] then words[5], words[6] = 's', now end
if stored then
  local lasts = tonumber(ARGV[6])
  for at, word in ipairs({'v', ARGV[7], 'm', mark, 'x', now + lasts}) do words[4 + at] = word end
  floor = math.max(floor, lasts)
end
redis.call('HSET', key, unpack(words))
keep(floor, not e[1])
if not there then return 2 end
return stored and 1 or 0
"""

_LIFE: Final = """
local life = redis.call('GET', KEYS[1])
if life then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return life
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]
"""


@dataclass(frozen=True, slots=True)
class Script:
    """One script.

    Attributes:
        name: For people.
        text: Its source.
        digest: What the server knows it by.
    """

    name: str
    text: str
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        # The digest is the protocol's name for a script; nothing secret hangs on it.
        object.__setattr__(self, "digest", sha1(self.text.encode(), usedforsecurity=False).hexdigest())


_PLAIN: Final = "#!lua"
_WHEN_FULL: Final = "#!lua flags=allow-oom"

GET: Final = Script("get", f"{_PLAIN}{_COMMON}{_GET}")
"""Arguments: life, probation, token, lease. Answers the value, or 1 leased, 2 wait, 3 fenced."""

FILL: Final = Script("fill", f"{_PLAIN}{_COMMON}{_FILL}")
"""Arguments: life, probation, token, value's duration, mark, value. Answers 1 stored, 0 refused."""

BEGIN: Final = Script("begin", f"{_WHEN_FULL}{_COMMON}{_FENCES}{_BEGIN}")
"""Arguments: life, probation, token, fence. Answers 0."""

END: Final = Script("end", f"{_PLAIN}{_COMMON}{_FENCES}{_END}")
"""Arguments: life, probation, token, mark, floor, value's duration or empty, value. Answers 1 stored, 0 lifted, 2
lost."""

LIFT: Final = Script("lift", f"{_WHEN_FULL}{_COMMON}{_FENCES}{_END}")
"""The same for an end without a value: it frees memory, so a full server takes it."""

LIFE: Final = Script("life", f"{_WHEN_FULL}{_LIFE}")
"""One key; arguments: a new life, its duration. Answers the life of the database, a new one if it had none."""

ALL: Final = (GET, FILL, BEGIN, END, LIFT, LIFE)
"""Every script, to be loaded when a connection is made."""


class Call(NamedTuple):
    """A script for one entry.

    Attributes:
        script: Which.
        key: The entry's.
        arguments: What follows life and probation.
    """

    script: Script
    key: str
    arguments: tuple[str | bytes | int, ...]
