// A whole agent in one file: it speaks the Agent Client Protocol on stdin and stdout, with Go's standard library alone.
// Change answer; the rest may stay as it is. What you write to stderr is shown by `opagent logs`; stdout belongs to the protocol.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	name    = "minimal-go"
	version = "0.1.0"
)

type object = map[string]any

var errCancelled = errors.New("the person stopped this turn")

type session struct {
	id, cwd string
	stop    chan struct{} // closed when the turn is cancelled; nil while no turn runs
}

var (
	lock     sync.Mutex // of everything below, and of stdout
	sessions = map[string]*session{}
	answers  = map[string]chan message{} // id of a request of ours -> where its turn waits
)

// turn is one prompt and all that follows until the agent has answered.
type turn struct {
	*session
	stop chan struct{}
}

// say sends one piece of the answer; send it as soon as you have it.
func (t turn) say(text string) error {
	select {
	case <-t.stop:
		return errCancelled
	default:
		t.update(object{"sessionUpdate": "agent_message_chunk", "content": object{"type": "text", "text": text}})
		return nil
	}
}

func (t turn) update(update object) {
	send(object{"method": "session/update", "params": object{"sessionId": t.id, "update": update}})
}

// ask asks whether a tool may be used; it waits as long as the person takes.
func (t turn) ask(call object) (bool, error) {
	reply := make(chan message, 1)
	lock.Lock()
	id := fmt.Sprintf("ask-%d", len(answers)+1)
	answers[id] = reply
	lock.Unlock()
	options := []object{
		{"optionId": "yes", "name": "Allow", "kind": "allow_once"},
		{"optionId": "no", "name": "Reject", "kind": "reject_once"},
	}
	send(object{"id": id, "method": "session/request_permission",
		"params": object{"sessionId": t.id, "toolCall": call, "options": options}})
	outcome := (<-reply).Result.Outcome
	if outcome.Outcome == "cancelled" {
		return false, errCancelled
	}
	return outcome.OptionID == "yes", nil
}

// answer is your agent. Here: `write FILE TEXT` asks and writes a file, everything else is said again.
func answer(t turn, text string) error {
	if words := strings.SplitN(text, " ", 3); words[0] == "write" && len(words) == 3 {
		return write(t, words[1], words[2])
	}
	for _, word := range strings.Split("echo: "+text, " ") {
		if err := t.say(word + " "); err != nil {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil
}

func write(t turn, file, content string) error {
	path := filepath.Join(t.cwd, file)
	call := object{"toolCallId": "write-1", "title": "Write " + file, "kind": "edit", "status": "pending",
		"locations": []object{{"path": path}}, "content": []object{{"type": "diff", "path": path, "newText": content}}}
	shown := object{"sessionUpdate": "tool_call"}
	for key, value := range call {
		shown[key] = value
	}
	t.update(shown)
	allowed, err := t.ask(call)
	if err != nil {
		return err
	}
	status, said := "failed", "did not write "
	if allowed {
		if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
			return err
		}
		status, said = "completed", "wrote "
	}
	t.update(object{"sessionUpdate": "tool_call_update", "toolCallId": "write-1", "status": status})
	return t.say(said + file)
}

// ---- the protocol: https://agentclientprotocol.com --------------------------------------------------------------------------

type message struct {
	ID     json.RawMessage
	Method string
	Params struct {
		SessionID string `json:"sessionId"`
		Cwd       string
		Prompt    []struct{ Type, Text string }
	}
	Result struct {
		Outcome struct {
			Outcome  string
			OptionID string `json:"optionId"`
		}
	}
}

func send(body object) {
	body["jsonrpc"] = "2.0"
	line, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	lock.Lock()
	defer lock.Unlock()
	os.Stdout.Write(append(line, '\n'))
}

func fail(id json.RawMessage, code int, words string) {
	send(object{"id": id, "error": object{"code": code, "message": words}})
}

func run(id json.RawMessage, t turn, text string) {
	err := answer(t, text)
	lock.Lock()
	t.session.stop = nil
	lock.Unlock()
	switch {
	case err == nil:
		send(object{"id": id, "result": object{"stopReason": "end_turn"}})
	case errors.Is(err, errCancelled):
		send(object{"id": id, "result": object{"stopReason": "cancelled"}})
	default: // the person sees it; the next turn may go well
		fail(id, -32603, err.Error())
	}
}

func prompt(m message) {
	lock.Lock()
	s := sessions[m.Params.SessionID]
	busy := s != nil && s.stop != nil
	if s != nil && !busy {
		s.stop = make(chan struct{})
	}
	lock.Unlock()
	if s == nil {
		fail(m.ID, -32002, "there is no such session")
		return
	}
	if busy {
		fail(m.ID, -32600, "a turn is running in this session")
		return
	}
	text := ""
	for _, block := range m.Params.Prompt {
		if block.Type == "text" {
			text = block.Text
		}
	}
	go run(m.ID, turn{s, s.stop}, text)
}

func cancel(id string) {
	lock.Lock()
	defer lock.Unlock()
	if s := sessions[id]; s != nil && s.stop != nil {
		select {
		case <-s.stop: // it was cancelled before
		default:
			close(s.stop)
		}
	}
}

func received(m message) {
	switch {
	case m.Method == "session/cancel":
		cancel(m.Params.SessionID)
	case m.Method == "": // the answer to a request of ours
		var id string
		if json.Unmarshal(m.ID, &id) == nil && answers[id] != nil {
			answers[id] <- m
		}
	case m.ID == nil: // a notification that this agent does not know
	case m.Method == "initialize":
		send(object{"id": m.ID, "result": object{"protocolVersion": 1, "agentInfo": object{"name": name, "version": version},
			"agentCapabilities": object{"loadSession": false}, "authMethods": []object{}}})
	case m.Method == "session/new":
		lock.Lock()
		s := &session{id: fmt.Sprintf("session-%d", len(sessions)+1), cwd: m.Params.Cwd}
		sessions[s.id] = s
		lock.Unlock()
		send(object{"id": m.ID, "result": object{"sessionId": s.id}})
	case m.Method == "session/prompt":
		prompt(m)
	default:
		fail(m.ID, -32601, m.Method+" is not offered")
	}
}

func main() {
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return // OpAgent closed the input
		}
		var m message
		if !json.Valid(line) {
			fail(json.RawMessage("null"), -32700, "this is no JSON")
		} else if json.Unmarshal(line, &m) == nil {
			received(m)
		}
	}
}
