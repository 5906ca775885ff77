// A whole agent in one file: it speaks the Agent Client Protocol on stdin and stdout, with Node's own modules alone.
// Change `answer`; the rest may stay as it is. console.error is shown by `opagent logs`; stdout belongs to the protocol.

import { writeFile } from "node:fs/promises";
import { resolve } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

const NAME = "minimal-node";
const VERSION = "0.1.0";
const sessions = new Map(); // id -> its Session
const answers = new Map(); // id of a request of ours -> what its turn waits for

class Cancelled extends Error {} // the person stopped this turn

class Session {
  constructor(id, cwd) {
    Object.assign(this, { id, cwd, busy: false, cancelled: false });
  }

  // One piece of the answer; send it as soon as you have it.
  say(text) {
    if (this.cancelled) throw new Cancelled();
    this.update({ sessionUpdate: "agent_message_chunk", content: { type: "text", text } });
  }

  update(update) {
    send({ method: "session/update", params: { sessionId: this.id, update } });
  }

  // Ask whether a tool may be used; waits as long as the person takes.
  async ask(toolCall) {
    const id = `ask-${answers.size + 1}`;
    const options = [
      { optionId: "yes", name: "Allow", kind: "allow_once" },
      { optionId: "no", name: "Reject", kind: "reject_once" },
    ];
    const reply = new Promise((done) => answers.set(id, done));
    send({ id, method: "session/request_permission", params: { sessionId: this.id, toolCall, options } });
    const outcome = (await reply).result?.outcome;
    if (outcome?.outcome === "cancelled") throw new Cancelled();
    return outcome?.optionId === "yes";
  }
}

// Your agent. Here: `write FILE TEXT` asks and writes a file, everything else is said again.
async function answer(session, text) {
  const [, name, content] = /^write (\S+) ([^]*)$/.exec(text) ?? [];
  if (name) {
    const path = resolve(session.cwd, name);
    const call = { toolCallId: "write-1", title: `Write ${name}`, kind: "edit", locations: [{ path }] };
    call.content = [{ type: "diff", path, newText: content }];
    session.update({ sessionUpdate: "tool_call", status: "pending", ...call });
    const allowed = await session.ask(call);
    if (allowed) await writeFile(path, content);
    const status = allowed ? "completed" : "failed";
    session.update({ sessionUpdate: "tool_call_update", toolCallId: "write-1", status });
    session.say(`${allowed ? "wrote" : "did not write"} ${name}`);
    return;
  }
  for (const word of `echo: ${text}`.split(" ")) {
    session.say(`${word} `);
    await sleep(20);
  }
}

// ---- the protocol: https://agentclientprotocol.com ------------------------------------------------------------------------

function send(message) {
  process.stdout.write(`${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`);
}

function fail(id, code, message) {
  send({ id, error: { code, message } });
}

async function turn(id, session, text) {
  try {
    await answer(session, text);
    send({ id, result: { stopReason: "end_turn" } });
  } catch (error) {
    if (error instanceof Cancelled) send({ id, result: { stopReason: "cancelled" } });
    else fail(id, -32603, String(error)); // the person sees it; the next turn may go well
  } finally {
    session.busy = false;
  }
}

function requested(id, method, params) {
  const session = sessions.get(params.sessionId);
  if (method === "initialize") {
    const agentInfo = { name: NAME, version: VERSION };
    send({ id, result: { protocolVersion: 1, agentInfo, agentCapabilities: { loadSession: false }, authMethods: [] } });
  } else if (method === "session/new") {
    const sessionId = `session-${sessions.size + 1}`;
    sessions.set(sessionId, new Session(sessionId, params.cwd));
    send({ id, result: { sessionId } });
  } else if (method === "session/prompt" && !session) {
    fail(id, -32002, "there is no such session");
  } else if (method === "session/prompt" && session.busy) {
    fail(id, -32600, "a turn is running in this session");
  } else if (method === "session/prompt") {
    Object.assign(session, { busy: true, cancelled: false });
    turn(id, session, params.prompt.filter((block) => block.type === "text").at(-1)?.text ?? "");
  } else {
    fail(id, -32601, `${method} is not offered`);
  }
}

function received(message) {
  const { id, method, params = {} } = message;
  if (method && id !== undefined) requested(id, method, params);
  else if (method === "session/cancel" && sessions.has(params.sessionId)) sessions.get(params.sessionId).cancelled = true;
  else if (!method) answers.get(id)?.(message);
}

for await (const line of createInterface({ input: process.stdin })) {
  let message;
  try {
    message = JSON.parse(line);
  } catch {
    fail(null, -32700, "this is no JSON");
    continue;
  }
  if (message !== null && typeof message === "object") received(message);
}
process.exit(0); // OpAgent closed the input
