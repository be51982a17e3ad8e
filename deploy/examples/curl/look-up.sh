#!/bin/sh
# Looks numbers up: look-up.sh NUMBER... Needs curl 7.82 or newer, and jq.
set -eu
server=${CONTACTD_SERVER:-http://127.0.0.1:50051}
case $server in
    *://*) ;;
    *) server=http${CONTACTD_CA_FILE:+s}://$server ;;
esac

# The token that the daemon's operator gave to this program, if there are tokens.
token=
[ -z "${CONTACTD_TOKEN_FILE:-}" ] || token=$(cat "$CONTACTD_TOKEN_FILE")
export token

# A phone rings for some seconds; after two of them a name is too late.
deadline_ms=2000

# The body and the token as lines of a configuration for curl. The secrets are in the environment and
# in these lines, because everybody on a machine can see arguments.
question() {
    jq --null-input --raw-output --arg number "$1" '
        {
            user: {id: "agent-7", platform: "example", region: "US"},
            authHeader: env.CONTACTD_AUTH_HEADER, phoneNumber: $number, createOption: false
        }
        | "json = \(tojson | tojson)",
        (env.token | select(. != "") | "header = \("Authorization: Bearer \(.)" | tojson)")'
}

# One contact with company, or the names of several, for a person to choose from; or why there is none.
shown='
def company: if .company == "" then "" else ", \(.company)" end;
def doubt: if .matchQuality == "MATCH_QUALITY_UNVERIFIED" then " (unverified)" else "" end;
.matchedContactInfo as $all
| if $all == [] then .returnMessage.message
  elif ($all | length) == 1 then $all[0] | .name + company + doubt
  else "\($all | length) contacts: \($all | map(.name + doubt) | join("; "))" end'

# The reason, and the message for people. What only the programmer can mend is in the message of the status.
failed='
([.details[]?.debug.reason | strings][0] // .code) as $reason
| [.details[]? | select(.type == "contactd.v1.ReturnMessage").debug.message][0] as $for_people
| ($reason | test("^(INVALID_REQUEST$|CALLER_)")) as $for_programmers
| "failed: \($reason): \(if $for_programmers then .message else $for_people // .message end)"'

failures=0
for number in "$@"; do
    # curl itself waits a little longer, so that an answer about a missed deadline arrives.
    if ! reply=$(question "$number" | curl --silent --show-error --config - --max-time 2.5 \
        ${CONTACTD_CA_FILE:+--cacert "$CONTACTD_CA_FILE"} \
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
