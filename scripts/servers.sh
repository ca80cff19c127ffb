#!/usr/bin/env bash
# Get the servers that the tests run on, where they are missing. Called by `make test`, `make servers` and
# `make bench`; quick when all is there. What cannot be had is said, and the tests say it again.
#
# Changes the system only by installing Debian packages, as root or with sudo that asks for no password;
# STORAGE_TEST_INSTALL=no forbids that. Everything else goes into a cache: see cache_directory in
# tests/servers/places.py.
set -euo pipefail
cd "$(dirname "$0")/.."

QUESTDB=9.3.4
TIMESCALE=postgresql-17-timescaledb

say() { echo "servers: $*" >&2; }

have() { command -v "$1" >/dev/null || [[ -x /usr/sbin/$1 ]]; }

as_root() {
    if ((EUID == 0)); then "$@"; else sudo -n "$@"; fi
}

may_install() {
    [[ ${STORAGE_TEST_INSTALL:-yes} != no ]] && command -v apt-get >/dev/null && as_root true 2>/dev/null
}

apt() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 "$@" </dev/null >/dev/null
}

# Debian's package makes a cluster of its own on port 5432 unless told not to; the tests need the programs alone.
without_cluster() {
    local told=/etc/postgresql-common/createcluster.conf
    [[ -e $told ]] || as_root sh -c "mkdir -p ${told%/*} && echo 'create_main_cluster = false' >$told"
}

system_packages() {
    local missing=()
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || missing+=(postgresql)
    have pgbouncer || missing+=(pgbouncer)
    have redis-server || missing+=(redis-server) # the wheel's Valkey has no TLS
    have java || missing+=(default-jre-headless)
    [[ -e $CACHE/questdb/questdb-$QUESTDB.jar ]] || have mvn || missing+=(maven)
    ((${#missing[@]})) || return 0
    if ! may_install; then
        say "not here: ${missing[*]}. Install them, for example with apt-get install ${missing[*]}"
        return 0
    fi
    say "installing ${missing[*]}"
    without_cluster
    apt update || say "apt-get update failed; going on with the lists that are here"
    apt install --no-install-recommends -y "${missing[@]}" || say "apt-get could not install ${missing[*]}"
}

questdb() {
    local target=$CACHE/questdb
    [[ -e $target/questdb-$QUESTDB.jar ]] && return
    have mvn || { say "no QuestDB: mvn is needed to fetch it"; return; }
    say "fetching QuestDB $QUESTDB with Maven (30 MB)"
    mkdir -p "$target"
    # Into a directory of its own first: a jar that was fetched by half is not taken for a whole one.
    (cd "$WORK" && mvn -q -B -ntp dependency:copy -Dartifact="org.questdb:questdb:$QUESTDB" -DoutputDirectory="$WORK/jar" \
        >"$WORK/mvn.log" 2>&1) || { say "Maven failed: $(tail -n 1 "$WORK/mvn.log")"; return; }
    mv "$WORK/jar/questdb-$QUESTDB.jar" "$target/"
}

# TimescaleDB is in no package for Debian 12. The one of Debian 13 is unpacked with all that it needs into a directory
# that the server sees as its root: apt is given a state of its own, so that the system's is not touched.
timescale() {
    local root=$CACHE/timescale keys=/usr/share/keyrings/debian-archive-keyring.gpg
    [[ -e $root/complete ]] && return
    if ((EUID != 0)) || ! command -v dpkg-deb >/dev/null || [[ ! -e $keys || $(uname -m) != x86_64 ]]; then
        say "no TimescaleDB: unpacking Debian's needs root on Debian for x86-64 (STORAGE_TEST_TIMESCALE_URL names your own)"
        return
    fi
    local mirror
    mirror=$(debian_mirror)
    [[ -n $mirror ]] || { as_root apt-get -qq update </dev/null >/dev/null 2>&1 && mirror=$(debian_mirror); } || true
    [[ -n $mirror ]] || { say "no TimescaleDB: apt names no mirror of Debian"; return; }
    say "fetching TimescaleDB from Debian 13 (100 MB)"
    mkdir -p "$WORK/lists/partial" "$WORK/archives/partial" "$WORK/root"
    : >"$WORK/status"
    echo "deb [signed-by=$keys] $mirror trixie main" >"$WORK/sources.list"
    local own=(-qq -y --no-install-recommends -o APT::Sandbox::User=root -o "Dir::State=$WORK" -o "Dir::State::status=$WORK/status"
        -o "Dir::Cache=$WORK" -o "Dir::Etc::sourcelist=$WORK/sources.list" -o Dir::Etc::sourceparts=-
        -o Dir::Etc::preferencesparts=- -o Acquire::Languages=none)
    apt-get "${own[@]}" update </dev/null >"$WORK/apt.log" 2>&1 &&
        apt-get "${own[@]}" install --download-only dash "$TIMESCALE" </dev/null >>"$WORK/apt.log" 2>&1 ||
        { say "apt failed: $(tail -n 1 "$WORK/apt.log")"; return; }
    unpack "$WORK/root"
    rm -rf "$root"
    mv "$WORK/root" "$root"
    : >"$root/complete"
}

# The mirror that the system itself uses; its label is known once apt has fetched a list from it.
debian_mirror() {
    apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
        awk '$1 == "Debian" && !found { print $2; found = 1 }'
}

# What maintainers' scripts would do, as far as a server needs it: the merged /usr, a user, /dev/null.
unpack() {
    local root=$1 name
    mkdir -p "$root"/usr/{bin,sbin,lib,lib64} "$root"/{dev,etc,tmp,proc}
    for name in bin sbin lib lib64; do ln -s "usr/$name" "$root/$name"; done
    for name in "$WORK"/archives/*.deb; do
        dpkg-deb --fsys-tarfile "$name" | tar -x -C "$root" --keep-directory-symlink \
            --exclude='./usr/share/doc' --exclude='./usr/share/man' --exclude='./usr/share/locale' --exclude='./usr/share/i18n'
    done
    [[ -e $root/bin/sh ]] || ln -s dash "$root/usr/bin/sh"
    chmod 755 "$root"
    chmod 1777 "$root/tmp"
    getent passwd root postgres nobody >"$root/etc/passwd" || true
    mknod -m 666 "$root/dev/null" c 1 3 2>/dev/null || : >"$root/dev/null"
    chmod 666 "$root/dev/null"
}

CACHE=$(.venv/bin/python -c 'from tests.servers.places import cache_directory; print(cache_directory())')
WORK=$(mktemp -d "$CACHE/fetching.XXXXXX")
trap 'rm -rf "$WORK"' EXIT
exec 9>"$CACHE/fetch.lock"
if command -v flock >/dev/null; then flock 9; fi
system_packages
questdb
timescale
