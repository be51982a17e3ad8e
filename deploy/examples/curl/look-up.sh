#!/bin/sh
# Looks numbers up: look-up.sh NUMBER... Needs curl 7.82 or newer, and jq.
set -eu
server=${CONTACTD_SERVER:-http://127.0.0.1:50051}

# A phone rings for some seconds; after two of them a name is too late.
deadline_ms=2000

# The credential is in the environment, because everybody on a machine can see arguments.
question() {
    jq --null-input --arg number "$1" '{
        user: {id: "agent-7", platform: "example", region: "US"},
        authHeader: env.CONTACTD_AUTH_HEADER, phoneNumber: $number, createOption: false
    }'
}

# One contact with company, or the names of several, for a person to choose from; or why there is none.
shown='
def company: if .company == "" then "" else ", \(.company)" end;
def doubt: if .matchQuality == "MATCH_QUALITY_UNVERIFIED" then " (unverified)" else "" end;
.matchedContactInfo as $all
| if $all == [] then .returnMessage.message
  elif ($all | length) == 1 then $all[0] | .name + company + doubt
  else "\($all | length) contacts: \($all | map(.name + doubt) | join("; "))" end'

# The reason, for programs, and the message for people.
failed='
([.details[]?.debug.reason | strings][0] // .code) as $reason
| "failed: \($reason): \([.details[]? | select(.type == "contactd.v1.ReturnMessage").debug.message][0] // .message)"'

failures=0
for number in "$@"; do
    # curl itself waits a little longer, so that an answer about a missed deadline arrives.
    if ! reply=$(question "$number" | curl --silent --show-error --json @- --max-time 2.5 \
        --header "Connect-Timeout-Ms: $deadline_ms" --write-out '\n%{http_code}' \
        "$server/contactd.v1.ContactService/FindContact"); then
        failures=$((failures + 1))
        continue
    fi
    status=${reply##*
}
    body=${reply%
*}
    if [ "$status" = 200 ]; then
        printf '%s: %s\n' "$number" "$(printf '%s' "$body" | jq --raw-output "$shown")"
    else
        printf '%s: %s\n' "$number" "$(printf '%s' "$body" | jq --raw-output "$failed")"
        failures=$((failures + 1))
    fi
done
[ "$failures" -eq 0 ]
