#!/usr/bin/env bash
# What `make up` and `make down` print about the container stack, besides Docker's own messages.
set -euo pipefail

container() { docker compose ps --all --quiet api 2>/dev/null | head -n 1; }
inspect() { docker inspect --format "$1" "$(container)"; }

case $1 in
claim) # Fails if another clone runs under the same project name: we would replace its container.
    [ -n "$(docker compose ps --quiet api 2>/dev/null)" ] || exit 0
    other=$(inspect '{{index .Config.Labels "com.docker.compose.project.working_dir"}}')
    if [ -d "$other" ] && ! [ "$other" -ef . ]; then
        echo "Another clone, $other, runs under the same project name:" \
            "set a COMPOSE_PROJECT_NAME and a PORT for this one in .env." >&2
        exit 1
    fi
    ;;
explain) # Why `docker compose up` failed. Fails itself.
    [ -n "$(container)" ] || exit 1 # Docker has printed why: no image, or a wrong setting.
    if [ "$(inspect '{{.State.Status}}')" = created ]; then
        echo "The container could not start, as Docker says above. If another program uses the" \
            "port, set another one, such as PORT=8001." >&2
    else
        printf '\nThe service did not become ready. The last lines of its log:\n' >&2
        docker compose logs --no-log-prefix --tail 3 api >&2
    fi
    exit 1
    ;;
address) # The URL of the service.
    echo "http://localhost:$(docker compose port api 8000 | sed 's/.*://')"
    ;;
contents) # What `docker compose down -v` is about to delete.
    [ -n "$(container)" ] || exit 0
    volume=$(inspect '{{range .Mounts}}{{if eq .Destination "/data"}}{{.Name}}{{end}}{{end}}')
    [ -n "$volume" ] || exit 0 # It is a folder of the host, which Docker does not delete.
    count="import sqlite3
from webhook_api.config import Config
path = Config.from_env().database_path
db = sqlite3.connect(f'file:{path}?mode=ro', uri=True)
print(db.execute('SELECT count(*) FROM messages').fetchone()[0])"
    export WEBHOOK_SECRET=unused WEBHOOK_SECRET_FILE= # there may be none
    run=(run --rm --no-deps)
    [ "$(inspect '{{.State.Running}}')" = false ] || run=(exec)
    messages=$(docker compose "${run[@]}" -T api python -c "$count" 2>/dev/null </dev/null) ||
        messages="an unknown number of"
    echo "Deleting $volume, and $messages messages with it (make stop would keep them)."
    ;;
esac
