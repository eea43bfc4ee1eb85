# Keeps one throw-away PostgreSQL cluster. Arguments: the name of its folder, the folder of the
# server's programs, and the places where the folder may go.
#
# Orders come on standard input, one word a line. When that is closed, for whatever reason, the
# program under way is stopped, the folder is deleted, and this ends.

unset TENANTRY_WATCHDOG
name=$1
bin=$2
shift 2

# The pipe alone decides. Without this, a reader that is gone would end the script at its first
# output, and a signal to the whole session would leave the server alone.
trap '' HUP INT QUIT TERM PIPE

folder=
for place in "$@"; do
    if mkdir -m 700 "$place/$name" 2>/dev/null; then
        folder=$place/$name
        break
    fi
done
[ -n "$folder" ] || exit 1
printf '%s\n' "$folder"
exec 3<&0 </dev/null >>"$folder/log" 2>&1

# Runs a program and obeys orders meanwhile and after it. Succeeds when the next program is
# wanted, fails when the pipe is closed.
run() {
    "$@" 3<&- &
    child=$!
    (
        while read -r order; do
            case $order in
                fast) [ -e "$folder/ended" ] || kill -INT "$child" ;;
                immediate) [ -e "$folder/ended" ] || kill -QUIT "$child" ;;
                next) exit 0 ;;
            esac
        done
        # Repeated, because a program that has only just been started ignores the signal.
        tries=0
        while [ ! -e "$folder/ended" ]; do
            signal=QUIT
            [ "$tries" -lt 100 ] || signal=KILL
            kill "-$signal" "$child" 2>/dev/null || break
            tries=$((tries + 1))
            sleep 0.1 || sleep 1
        done
        exit 1
    ) <&3 &
    orders=$!
    printf '%s\n' "$child" >"$folder/pid"
    wait "$child"
    # Renamed, so that whoever sees the file sees all of it.
    printf '%s\n' "$?" >"$folder/ended.new" && mv "$folder/ended.new" "$folder/ended"
    wait "$orders"
}

if run "$bin/initdb" --pgdata="$folder/data" --username=postgres --auth=trust \
    --encoding=UTF8 --locale=C --no-sync; then
    while run "$bin/postgres" -D "$folder/data"; do :; done
fi

# Repeated, because a helper of a killed program may still be writing.
tries=0
until rm -rf "$folder" || [ "$tries" -ge 50 ]; do
    tries=$((tries + 1))
    sleep 0.1 || sleep 1
done
