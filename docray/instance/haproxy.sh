#!/bin/sh
# Stands between Ray Serve and HAProxy (RAY_SERVE_HAPROXY_BINARY_PATH): the same program, with a few changes to the file Serve writes.
# 1. HAProxy's metrics and statistics listen on loopback, not on every interface.
# 2. What HAProxy itself answers (no replica, time-out) has docray's error shape, and 503 keeps its status; Serve's
#    fallback proxy, which would answer in plain text while no replica is up, is left out, and so is the server's name. (What is not HTTP at all gets HAProxy's built-in 400, which nothing can change.)
# 3. Serve appends the request's id to an answer that has it already: the first one, the application's, stays.
set -eu
file=
previous=
for word in "$@"; do
    [ "$previous" = "-f" ] && file=$word
    previous=$word
done
if [ -n "$file" ] && ! grep -q 'docray-error-shape' "$file"; then
    error() { # status, type, code, retryable, extra headers, message
        printf '    http-error status %s content-type application/json lf-string %s hdr X-Request-Id %s %s\n' "$1" \
            "'{\"error\":{\"type\":\"$2\",\"code\":\"$3\",\"message\":\"$6\",\"param\":null,\"request_id\":\"%[unique-id]\",\"retryable\":$4}}'" \
            "%[unique-id]" "$5"
    }
    {
        echo '    # docray-error-shape'
        echo '    unique-id-format %[uuid()]'
        error 500 internal internal false '' 'Something went wrong on our side. Try again; if it stays, report the request id.'
        error 502 unavailable unavailable true 'hdr Retry-After 1' 'A part of the service is not available. Try again after the time in Retry-After.'
        error 503 unavailable unavailable true 'hdr Retry-After 1' 'A part of the service is not available. Try again after the time in Retry-After.'
        error 504 unavailable unavailable true 'hdr Retry-After 1' 'A part of the service did not answer in time. Try again after the time in Retry-After.'
    } >"$file.errors"
    sed -i -e 's/^\( *bind \)\**:\([0-9][0-9]*\)$/\1127.0.0.1:\2/' -e '/^ *errorfile 50[234] /d' -e '/^ *server .* backup$/d' \
        -e 's/^ *http-request return status 404 content-type text.plain lf-string .*$/    http-request deny deny_status 503/' \
        -e 's/^frontend http_frontend$/&\n    http-response del-header server\n    http-response set-header X-Request-Id %[res.fhdr(x-request-id,1)]/' \
        -e "/^defaults\$/{
r $file.errors
}" "$file"
fi
exec "${DOCRAY_HAPROXY:?the path of the real HAProxy}" "$@"
