"""The four operations on entries, as Lua scripts that the server runs atomically.

An entry is one hash; `gateway.cache.contract` says what it means. Its fields: `s` since; `v` value, `m` its mark, `x`
until when; `t` lease token, `l` until when; `f` floor, `g` until when; `!TOKEN` until when a writer's fence stands,
with an `s` behind it once it was shared, and `w` until when the last of them does. Moments are milliseconds of the
server's clock.

What matters about how they are written:

* `#!lua` makes a server refuse them while it is a replica, and while it is full unless the script says `allow-oom`.
  So no replica ever serves a value, and a full server still takes a writer's fence.
* A script takes many entries, since calling it costs the server as much as what it does for an entry; in a cluster it
  takes one.
* The first argument is the *life* of the database: a random text under the last key. A database that was emptied has
  lost it, and with it fences of writes under way, so that nothing is done before everybody knows. A cluster
  cannot look at two keys at once, and a server that evicts could evict this one: there the argument is empty, and
  what protects is the entries' probation.
* An entry's expiry is only ever prolonged (`GT`), so that it outlives whatever it holds.
* A fence that was never shared is the only one, so that its end need not look for others; `w` is there exactly while
  a fence is, run out or not.
* Marks are compared byte by byte, because Lua's `<` follows the server's locale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha1
from itertools import chain
from typing import Final, NamedTuple

from gateway_redis.link import Words

__all__ = ["ALL", "BEGIN", "END", "FILL", "GET", "LIFE", "LIFT", "MOVED", "Call", "Script"]

MOVED: Final = 9
"""What every script answers when the database's life is another; nothing was done."""

_COMMON: Final = """
local prob = tonumber(ARGV[2])
local entries = #KEYS
if ARGV[1] ~= '' then
  if redis.call('GET', KEYS[entries]) ~= ARGV[1] then return 9 end
  entries = entries - 1
end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local function later(moment) return moment and tonumber(moment) > now end
local function ahead(moment) return moment and tonumber(moment:match('^%d+')) > now end
local function below(one, two)
  if #one ~= #two then return #one < #two end
  for at = 1, #one do
    local a, b = one:byte(at), two:byte(at)
    if a ~= b then return a < b end
  end
  return false
end
local function keep(key, ms, made)
  ms = math.max(ms, 2 * prob)
  if made then redis.call('PEXPIRE', key, ms) else redis.call('PEXPIRE', key, ms, 'GT') end
end
"""

_EACH: Final = """
local answers = {}
for at = 1, entries do answers[at] = one(KEYS[at], %d + (at - 1) * %d) end
return answers
"""
"""The script's function for each entry, with the place before its own arguments."""

_FENCES: Final = """
local function standing(key)
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
local token, lease = ARGV[3], tonumber(ARGV[4])
local function one(key)
  local e = redis.call('HMGET', key, 's', 'w', 'v', 'x', 'l')
  if not e[1] then
    if prob > 0 then
      redis.call('HSET', key, 's', now)
      keep(key, lease, true)
      return 3
    end
    redis.call('HSET', key, 's', now, 't', token, 'l', now + lease)
    keep(key, lease, true)
    return 1
  end
  if prob > 0 and redis.call('PTTL', key) < 2 * prob then redis.call('PEXPIRE', key, 3 * prob) end
  if later(e[2]) then return 3 end
  if prob > 0 and now - tonumber(e[1]) < prob then return 3 end
  if e[3] and later(e[4]) then return e[3] end
  if later(e[5]) then return 2 end
  redis.call('HSET', key, 't', token, 'l', now + lease)
  keep(key, lease)
  return 1
end
"""

_FILL: Final = """
local lasts = tonumber(ARGV[3])
local function one(key, own)
  local token, mark, value = ARGV[own + 1], ARGV[own + 2], ARGV[own + 3]
  local e = redis.call('HMGET', key, 't', 'l', 'w', 'f', 'g')
  if e[1] ~= token then return 0 end
  redis.call('HDEL', key, 't', 'l')
  if not later(e[2]) or later(e[3]) then return 0 end
  if later(e[5]) and below(mark, e[4]) then return 0 end
  redis.call('HSET', key, 'v', value, 'm', mark, 'x', now + lasts)
  keep(key, lasts)
  return 1
end
"""

_BEGIN: Final = """
local own, lasts = '!' .. ARGV[3], tonumber(ARGV[4])
local function one(key)
  local e = redis.call('HMGET', key, 's', 'w', own)
  local fence = string.format('%.0f', now + lasts)
  if e[1] then
    redis.call('HDEL', key, 'v', 'm', 'x', 't', 'l')
  else
    redis.call('HSET', key, 's', now)
  end
  if e[2] then
    if ahead(e[3]) and shared(e[3]) then fence = fence .. 's' end
    redis.call('HSET', key, own, fence)
    local found = standing(key)
    if next(found, next(found)) then
      for name, moment in pairs(found) do
        if not shared(moment) then redis.call('HSET', key, name, moment .. 's') end
      end
    end
  else
    redis.call('HSET', key, own, fence, 'w', fence)
  end
  keep(key, lasts, not e[1])
  return 0
end
"""

_END: Final = """
local floor_lasts = tonumber(ARGV[3])
local function one(key, at)
  local own, mark, lasts, value = '!' .. ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  local e = redis.call('HMGET', key, 's', own, 'f', 'g')
  local there, since = ahead(e[2]), tonumber(e[1] or now)
  if not e[1] and mark == '' then return 2 end
  local alone = there and not shared(e[2])
  if alone then
    redis.call('HDEL', key, own, 'w')
  elseif e[1] then
    redis.call('HDEL', key, own)
    if not there then redis.call('HDEL', key, 'v', 'm', 'x', 't', 'l') end
    standing(key)
  end
  if mark == '' then return there and 0 or 2 end
  local lower = later(e[4]) and below(mark, e[3])
  local floor = floor_lasts
  local words = {'f', lower and e[3] or mark, 'g', now + floor}
  local stored = lasts ~= '' and alone and not lower and now - since >= prob
  if not e[1] then words[5], words[6] = 's', now end
  if stored then
    for place, word in ipairs({'v', value, 'm', mark, 'x', now + tonumber(lasts)}) do words[4 + place] = word end
    floor = math.max(floor, tonumber(lasts))
  end
  redis.call('HSET', key, unpack(words))
  keep(key, floor, not e[1])
  if not there then return 2 end
  return stored and 1 or 0
end
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

GET: Final = Script("get", f"{_PLAIN}{_COMMON}{_GET}{_EACH % (4, 0)}")
"""Arguments: token, lease. Answers the value, or 1 leased, 2 wait, 3 fenced."""

FILL: Final = Script("fill", f"{_PLAIN}{_COMMON}{_FILL}{_EACH % (3, 3)}")
"""Arguments: value's duration; for each entry token, mark, value. Answers 1 stored, 0 refused."""

BEGIN: Final = Script("begin", f"{_WHEN_FULL}{_COMMON}{_FENCES}{_BEGIN}{_EACH % (4, 0)}")
"""Arguments: token, fence. Answers 0."""

END: Final = Script("end", f"{_PLAIN}{_COMMON}{_FENCES}{_END}{_EACH % (3, 4)}")
"""Arguments: floor; for each entry token, mark, value's duration or empty, value. Answers 1 stored, 0 lifted, 2
lost."""

LIFT: Final = Script("lift", f"{_WHEN_FULL}{_COMMON}{_FENCES}{_END}{_EACH % (3, 4)}")
"""The same for ends without a value: it frees memory, so a full server takes it."""

LIFE: Final = Script("life", f"{_WHEN_FULL}{_LIFE}")
"""One key; arguments: a new life, its duration. Answers the life of the database, a new one if it had none."""

ALL: Final = (GET, FILL, BEGIN, END, LIFT, LIFE)
"""Every script, to be loaded when a connection is made."""

Arguments = tuple[str | bytes | int, ...]


class Call(NamedTuple):
    """A script for some entries, each of which is one step of the server's, but for a cluster, where each is alone.

    Attributes:
        script: Which.
        keys: The entries'.
        shared: Arguments for all of them.
        own: Arguments of each of them, in their order; empty if there are none.
    """

    script: Script
    keys: Sequence[str]
    shared: Arguments
    own: Sequence[Arguments] = ()

    def command(self, life: str, probation: int, life_key: str, chosen: slice) -> Words:
        """Return the words that run it.

        Args:
            life: Of the database; empty where no mark is kept.
            probation: Milliseconds.
            life_key: Where the mark is kept.
            chosen: For which of the entries.
        """
        keys = self.keys[chosen]
        marks = (life_key,) if life else ()
        own = chain.from_iterable(self.own[chosen])
        return (
            "EVALSHA", self.script.digest, len(keys) + len(marks), *keys, *marks, life, probation, *self.shared, *own
        )  # fmt: skip
