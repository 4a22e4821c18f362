# Runs a PostgreSQL server in a directory of its own and takes orders from standard input, one a line; each is answered by
# a line "ok ..." or by what went wrong. When the input ends, so does the server, and the directory goes.
# Arguments: the directory of PostgreSQL's programs; fsync on or off. PGPASSWORD holds the password of the user "rookery".

trap '' INT TERM HUP PIPE
programs=$1
fsync=$2
directory=$(mktemp -d /tmp/rookery-postgres.XXXXXX) || exit 1
server=

family() {
    echo "$server" $(ps -o pid= --ppid "$server")
}

start() {
    "$programs/postgres" -D "$directory/data" -k "$directory" -c listen_addresses= -c fsync="$fsync" \
        -c max_connections=100 </dev/null >>"$directory/log" 2>&1 &
    server=$!
    tries=0
    until "$programs/pg_isready" -q -h "$directory" -U rookery -d postgres; do
        tries=$((tries + 1))
        if [ "$tries" -gt 600 ] || ! kill -0 "$server"; then
            tail -n 1 "$directory/log"
            return 1
        fi
        sleep 0.05
    done
}

end() {
    if [ -n "$server" ]; then
        all=$(family)
        kill -CONT $all
        kill "-$1" $(if [ "$1" = KILL ]; then echo "$all"; else echo "$server"; fi)
        wait "$server"
        # A server does not start while one of the killed ones is still ending. Where nobody reaps them, they stay for ever.
        tries=0
        for process in $all; do
            while [ "$tries" -lt 300 ] && kill -0 "$process"; do
                tries=$((tries + 1))
                sleep 0.01
            done
        done
        server=
    fi
}

printf '%s\n' "$PGPASSWORD" >"$directory/password"
if ! "$programs/initdb" -D "$directory/data" --username=rookery --auth=scram-sha-256 --pwfile="$directory/password" \
    --encoding=UTF8 --locale=C.UTF-8 --no-sync >"$directory/log" 2>&1; then
    tail -n 1 "$directory/log"
elif start; then
    echo "ok $directory"
    while read -r order argument; do
        case $order in
        database)
            if "$programs/createdb" -h "$directory" -U rookery -T template0 "$argument" 2>>"$directory/log"; then
                echo ok
            else
                tail -n 1 "$directory/log"
            fi
            ;;
        pause) kill -STOP $(family) && echo ok ;;
        resume) kill -CONT $(family) && echo ok ;;
        stop) end INT; echo ok ;;
        kill) end KILL; echo ok ;;
        start) start && echo ok ;;
        processes) echo ok $(family) ;;
        *) echo "unknown order: $order" ;;
        esac
    done
fi
end INT
rm -rf "$directory"
