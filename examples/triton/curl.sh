#!/usr/bin/env bash
# Segments an image on a Triton server, with curl alone; prints the server's answer, which is JSON.
#
#   bash curl.sh http://localhost:8000 photo.jpg
#   bash curl.sh http://localhost:8000 photo.jpg '{"prompts": [{"points": [[285, 150]]}]}'
#   MODEL=fastsam_device bash curl.sh http://localhost:8000 photo.jpg
#
# The request is JSON, then the tensors that the JSON announces, in its order. Both are BYTES: an element is its
# length in four bytes, low first, then itself. So nothing needs to be quoted or turned into base64.
set -euo pipefail

fail() {
  printf 'curl.sh: %s\n' "$1" >&2
  exit 2
}
[ $# -ge 2 ] && [ $# -le 3 ] || fail "expected URL IMAGE [PROMPT-JSON], got $# arguments; see the top of this file"
url=${1%/} image=$2 prompt=${3:-'{}'} model=${MODEL:-fastsam}
[ -f "$image" ] && [ -r "$image" ] || fail "$image: no such file, or not readable; expected an image such as a JPEG"
command -v curl >/dev/null || fail "curl is not installed; install it (apt install curl)"

length() { # a number as four bytes, low first
  local shift
  for shift in 0 8 16 24; do
    printf '%b' "\\x$(printf %02x $(($1 >> shift & 255)))"
  done
}
image_bytes=$(($(wc -c <"$image")))
prompt_bytes=$(($(printf %s "$prompt" | wc -c)))

# Outputs come as JSON, as "binary_data" is not asked for; more of them can be named.
json=$(
  cat <<JSON
{"inputs": [
   {"name": "IMAGE", "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": $((4 + image_bytes))}},
   {"name": "PROMPT", "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": $((4 + prompt_bytes))}}],
 "outputs": [{"name": "COUNT"}, {"name": "IMAGE_SIZE"}, {"name": "BOXES"}, {"name": "SCORES"}, {"name": "AREAS"},
   {"name": "PROMPTS"}, {"name": "MASKS"}]}
JSON
)

answer=$(mktemp)
trap 'rm -f "$answer"' EXIT
# Without "Expect:" curl may wait a second for leave to send a large image.
status=$(
  {
    printf %s "$json"
    length "$image_bytes"
    cat "$image"
    length "$prompt_bytes"
    printf %s "$prompt"
  } | curl --silent --show-error --connect-timeout 10 --max-time 120 --output "$answer" --write-out '%{http_code}' \
    --header "Content-Type: application/octet-stream" --header "Inference-Header-Content-Length: ${#json}" \
    --header "Expect:" --data-binary @- "$url/v2/models/$model/infer"
) || fail "no answer from $url (curl says why, above); expected a running server, for example http://localhost:8000"
[ "$status" = 200 ] || fail "the server answers $status: $(cat "$answer")"
cat "$answer"
echo
