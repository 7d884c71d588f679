# Runs one server for as long as somebody uses it, then stops it and removes its folder.
#
#   sh -c THIS name USERS GRACE SIGNAL FOLDER COMMAND...
#
# USERS   a file on which every user holds a shared lock: the kernel lets go of it however the user ends
# GRACE   for how many half seconds nobody may hold it before the server goes
# SIGNAL  what stops the server; after 10 s it is killed
# FOLDER  the server's throw-away folder. This script writes `pid` there, and `exited` with the status when the
#         server ends by itself; it goes at once when it finds `stop`.

users=$1 grace=$2 signal=$3 folder=$4
shift 4
cd "$folder" || exit 1
exec 8>>"$users" || exit 1

# The server must not outlive this script, even when somebody kills it outright.
if setpriv --pdeathsig "$signal" true 2>/dev/null; then
    set -- setpriv --pdeathsig "$signal" "$@"
fi
"$@" </dev/null 8>&- &
server=$!
echo "$server" >pid.new && mv pid.new pid

gone=
running() {
    [ -z "$gone" ] && kill -0 "$server" 2>/dev/null
}

leave() {
    trap '' TERM INT HUP
    rm -f ready
    if running; then
        kill -s "$signal" "$server"
        tries=100
        while running && [ "$tries" -gt 0 ]; do
            sleep 0.1
            tries=$((tries - 1))
        done
        running && kill -s KILL "$server"
    fi
    wait "$server"
    cd / && rm -rf "$folder"
    exit 0
}
trap leave TERM INT HUP

idle=0
while [ ! -e stop ]; do
    if [ -z "$gone" ] && ! running; then
        gone=yes
        rm -f ready
        wait "$server"
        echo $? >exited
    fi
    # Somebody started the server again in this folder: its supervisor takes over.
    if [ -n "$gone" ] && [ -e pid ] && [ "$(cat pid)" != "$server" ]; then
        exit 0
    fi
    # The exclusive lock is free when nobody uses the server. When it goes it keeps the lock to the end,
    # so that nobody can come to a server that is being stopped.
    if flock --exclusive --nonblock 8; then
        [ "$idle" -ge "$grace" ] && break
        idle=$((idle + 1))
        flock --unlock 8
    else
        idle=0
    fi
    sleep 0.5 8>&-
done
leave
