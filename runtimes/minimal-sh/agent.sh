#!/bin/sh
# A whole agent in one file: it speaks the Agent Client Protocol on stdin and stdout, in POSIX shell; jq reads and writes the JSON.
# Change `answer`; the rest may stay as it is. What you print to stderr is shown by `opagent logs`; stdout belongs to the protocol.
set -u

name=minimal-sh version=0.1.0
sessions=0 session='' cwd='' # the newest session; the ones before it are over
turn=''                      # id of the prompt that is being answered, as JSON
worker=''                    # the process that says the answer, while there is the file $running
running=$(mktemp) && rm -f "$running"
asked='' file='' content=''  # what waits for a person's yes

send() { jq -nc "$@"; } # one line; jq writes it at once
result() { send --argjson id "$1" "{jsonrpc: \"2.0\", id: \$id, result: $2}"; }
fail() { send --argjson id "$1" --argjson code "$2" --arg words "$3" '{jsonrpc: "2.0", id: $id, error: {code: $code, message: $words}}'; }
update() { # FILTER [jq options]: a session/update
  filter=$1
  shift
  send --arg session "$session" "$@" "{jsonrpc: \"2.0\", method: \"session/update\", params: {sessionId: \$session, update: ($filter)}}"
}
say() { update '{sessionUpdate: "agent_message_chunk", content: {type: "text", text: $text}}' --arg text "$1"; }

# Your agent, in a process of its own so that it can be cancelled. Here everything is said again, word by word.
answer() {
  set -f # no `*` in a person's words is a pattern
  for word in echo: $1; do
    say "$word "
  done
}

work() { # ID TEXT; a TERM waits for the line that is being written, so none is ever cut
  trap 'exit 1' TERM
  answer "$2"
  trap '' TERM
  rm -f "$running"
  result "$1" '{stopReason: "end_turn"}'
}

# `write FILE TEXT` asks first: the answer comes as another line, so this only puts the question.
ask() {
  file=${1%% *} content=${1#* } asked='"ask-1"'
  path=$cwd/$file
  call='{toolCallId: "write-1", title: "Write \($file)", kind: "edit", locations: [{path: $path}], content: [{type: "diff", path: $path, newText: $new}]}'
  update "{sessionUpdate: \"tool_call\", status: \"pending\"} + $call" --arg file "$file" --arg path "$path" --arg new "$content"
  send --arg session "$session" --arg file "$file" --arg path "$path" --arg new "$content" "{
    jsonrpc: \"2.0\", id: \"ask-1\", method: \"session/request_permission\", params: {sessionId: \$session, toolCall: $call, options: [
      {optionId: \"yes\", name: \"Allow\", kind: \"allow_once\"}, {optionId: \"no\", name: \"Reject\", kind: \"reject_once\"}]}}"
}

# The person's answer: yes, no, or nothing when the turn was cancelled.
decided() {
  asked=''
  if [ -z "$1" ]; then
    result "$turn" '{stopReason: "cancelled"}'
  else
    status=failed said="did not write $file"
    if [ "$1" = yes ]; then
      printf '%s' "$content" >"$cwd/$file" && status=completed said="wrote $file"
    fi
    update '{sessionUpdate: "tool_call_update", toolCallId: "write-1", status: $status}' --arg status "$status"
    say "$said"
    result "$turn" '{stopReason: "end_turn"}'
  fi
  turn=''
}

# ---- the protocol: https://agentclientprotocol.com ----------------------------------------------------------------------------

prompt() { # ID TEXT
  if [ -n "$asked" ] || [ -e "$running" ]; then
    fail "$1" -32600 'a turn is running in this session'
    return
  fi
  turn=$1
  case $2 in
    'write '*' '*) ask "${2#write }" ;;
    *)
      : >"$running"
      work "$1" "$2" &
      worker=$! ;;
  esac
}

cancel() { # a question that waits is answered with `cancelled` by whoever cancels
  [ -e "$running" ] || return
  kill "$worker" 2>/dev/null
  wait "$worker" 2>/dev/null
  if [ -e "$running" ]; then
    rm -f "$running"
    result "$turn" '{stopReason: "cancelled"}'
  fi
}

# id, method, session, cwd, option and text of a line, as words for `eval`
read_line='
  if type != "object" then empty else
    (.params // {} | objects) as $p |
    @sh "id=\(if has("id") then .id | tojson else "" end) method=\(.method // "") wanted=\($p.sessionId // "") dir=\($p.cwd // "")",
    @sh "option=\(.result.outcome.optionId? // "") text=\([$p.prompt // [] | .[] | select(.type == "text") | .text] | last // "")"
  end'

trap 'if [ -e "$running" ]; then kill "$worker"; rm -f "$running"; fi' EXIT
while IFS= read -r line; do # ends when OpAgent closes the input, and so does the agent
  if ! words=$(printf '%s\n' "$line" | jq -r "$read_line" 2>/dev/null); then
    fail null -32700 'this is no JSON'
    continue
  fi
  [ -n "$words" ] || continue
  eval "$words" # quoted by jq
  case $method in
    '') [ -n "$asked" ] && [ "$id" = "$asked" ] && decided "$option" ;;
    session/cancel) [ "$wanted" = "$session" ] && cancel ;;
    *)
      [ -n "$id" ] || continue # a notification that this agent does not know
      case $method in
        initialize)
          result "$id" "{protocolVersion: 1, agentInfo: {name: \"$name\", version: \"$version\"}, agentCapabilities: {loadSession: false}, authMethods: []}" ;;
        session/new)
          sessions=$((sessions + 1)) session=session-$((sessions)) cwd=$dir
          result "$id" "{sessionId: \"$session\"}" ;;
        session/prompt)
          if [ -n "$session" ] && [ "$wanted" = "$session" ]; then prompt "$id" "$text"; else fail "$id" -32002 'there is no such session'; fi ;;
        *) fail "$id" -32601 "$method is not offered" ;;
      esac ;;
  esac
done
