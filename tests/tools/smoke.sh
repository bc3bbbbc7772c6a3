#!/usr/bin/env bash
# The specification's evaluation script, step by step and with its own curl lines, against the
# container stack. The stack is one of its own, so that no data but its own is removed at the
# end. PORT says which port of the host it takes (8000, as the specification has it).
set -euo pipefail
cd "$(dirname "$0")/../.."

for tool in docker make curl jq openssl; do
    command -v "$tool" >/dev/null || { echo "smoke needs $tool" >&2; exit 2; }
done
export COMPOSE_PROJECT_NAME=webhook-api-smoke
export PORT=${PORT:-8000}
url=http://localhost:$PORT
give_up() {
    docker compose logs --tail 20 api || true
    docker compose down -v >/dev/null 2>&1
    printf '\nThe evaluation FAILED. Its own stack, %s, is removed again.\n' "$COMPOSE_PROJECT_NAME" >&2
}
trap give_up EXIT

step() { printf '\n== %s\n' "$*"; }
expect() { # WHAT EXPECTED ACTUAL
    [ "$2" = "$3" ] || { printf 'FAILED  %s: expected %s, got %s\n' "$1" "$2" "$3" >&2; exit 1; }
    printf 'ok  %s: %s\n' "$1" "$3"
}
sign() { printf %s "$1" | openssl dgst -sha256 -hmac "$WEBHOOK_SECRET" -r | cut -d ' ' -f 1; }
deliver() { # BODY
    curl -s -o /dev/null -w "%{http_code}" \
        -H "Content-Type: application/json" -H "X-Signature: $(sign "$1")" \
        -d "$1" "$url/webhook"
}
until_ready() {
    for _ in $(seq 60); do
        curl -sf "$url/health/ready" >/dev/null && return
        sleep 0.5
    done
    echo "FAILED  not ready after 30 s" >&2
    return 1
}

step "1. Start the stack"
export WEBHOOK_SECRET="testsecret"
export WEBHOOK_SECRET_FILE='' READ_TOKEN='' READ_TOKEN_FILE='' # whatever a .env says
export DATABASE_URL="sqlite:///data/app.db"
make up
until_ready

step "2. Health checks"
curl -sf "$url/health/live" >/dev/null
curl -sf "$url/health/ready" >/dev/null
echo "ok  live and ready"

step "3. Webhook and signature"
BODY='{"message_id": "m1", "from": "+919876543210", "to": "+14155550100", "ts": "2025-01-15T10:00:00Z", "text": "Hello"}'
expect "invalid signature" 401 "$(curl -s -o /dev/null -w "%{http_code}" \
    -H "Content-Type: application/json" \
    -H "X-Signature: 123" \
    -d "$BODY" \
    -X POST "$url/webhook")"
expect "nothing stored" 0 "$(curl -s "$url/messages" | jq .total)"
VALID_SIG=$(sign "$BODY")
expect "valid signature" 200 "$(curl -s -o /dev/null -w "%{http_code}" \
    -H "Content-Type: application/json" \
    -H "X-Signature: $VALID_SIG" \
    -d "$BODY" \
    "$url/webhook")"
expect "duplicate" 200 "$(curl -s -o /dev/null -w "%{http_code}" \
    -H "Content-Type: application/json" \
    -H "X-Signature: $VALID_SIG" \
    -d "$BODY" \
    "$url/webhook")"
expect "one row" 1 "$(curl -s "$url/messages" | jq .total)"

step "4. Seed more messages"
while IFS='|' read -r id from ts text; do
    seed=$(jq -cn --arg id "$id" --arg from "$from" --arg ts "$ts" --arg text "$text" \
        '{message_id: $id, from: $from, to: "+14155550100", ts: $ts, text: $text}')
    expect "$id" 200 "$(deliver "$seed")"
done <<'SEED'
m2|+919876543210|2025-01-15T09:00:00Z|Earlier
m3|+911234567890|2025-01-15T11:00:00Z|hello again
m4|+911234567890|2025-01-15T10:00:00Z|Same time as m1
m5|+919876543210|2025-01-10T09:00:00Z|First of all
SEED
expect "not valid, though signed" 422 "$(deliver '{"message_id": ""}')"

step "5. /messages: pages and filters"
curl -s "$url/messages" | jq .
expect "order" "m5 m2 m1 m4 m3" \
    "$(curl -s "$url/messages" | jq -r '[.data[].message_id] | join(" ")')"
expect "limit=2&offset=0" 2 \
    "$(curl -s "$url/messages?limit=2&offset=0" | jq '.data | length')"
expect "echo and total" "2 0 5" \
    "$(curl -s "$url/messages?limit=2&offset=0" | jq -r '"\(.limit) \(.offset) \(.total)"')"
expect "from=" 3 "$(curl -s "$url/messages?from=+919876543210" | jq .total)"
expect "since=" 3 "$(curl -s "$url/messages?since=2025-01-15T09:30:00Z" | jq .total)"
expect "q=" "m1 m3" \
    "$(curl -s "$url/messages?q=Hello" | jq -r '[.data[].message_id] | join(" ")')"

step "6. /stats"
curl -s "$url/stats" | jq .
expect "statistics" \
    '{"total_messages":5,"senders_count":2,"messages_per_sender":[{"from":"+919876543210","count":3},{"from":"+911234567890","count":2}],"first_message_ts":"2025-01-10T09:00:00Z","last_message_ts":"2025-01-15T11:00:00Z"}' \
    "$(curl -s "$url/stats" | jq -c .)"

step "7. /metrics"
metrics=$(curl -sf "$url/metrics")
grep -m 3 '^http_requests_total' <<<"$metrics"
grep '^webhook_requests_total' <<<"$metrics"
expect "created" 5.0 "$(sed -n 's/^webhook_requests_total{result="created"} //p' <<<"$metrics")"

step "8. Logs"
log=$(docker compose logs --no-log-prefix api)
head -n 20 <<<"$log"
expect "lines that are no JSON object" 0 \
    "$(jq -R 'select((try fromjson catch null | type) != "object")' <<<"$log" | wc -l)"
expect "results" "invalid_signature created duplicate created created created created validation_error" \
    "$(jq -r 'select(.path == "/webhook") | .result' <<<"$log" | xargs)"
expect "deliveries with message_id and dup" "7 of 8, 1 dup" "$(jq -s -r \
    'map(select(.path == "/webhook")) | "\(map(select(.message_id != null)) | length) of \(length), \(map(select(.dup)) | length) dup"' <<<"$log")"

step "Beyond the evaluation: the data outlives its container, under both spellings of its URL"
make stop
docker compose rm --force api
DATABASE_URL="sqlite:////data/app.db" make up
until_ready
expect "messages kept" 5 "$(curl -s "$url/stats" | jq .total_messages)"
expect "state for Docker" healthy "$(docker inspect -f '{{.State.Health.Status}}' "$(docker compose ps -q api)")"
expect "user" 10001 "$(docker compose exec -T api id -u)"

step "9. Shutdown"
trap - EXIT
make down
expect "volumes left" 0 "$(docker volume ls -q --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME" | wc -l)"
printf '\nThe evaluation passed.\n'
