// The echo agent in another language: the official SDK speaks the protocol, this file only decides what to say.

import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { resolve } from "node:path";
import { Readable, Writable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";

import { agent, methods, ndJsonStream, PROTOCOL_VERSION, RequestError } from "@agentclientprotocol/sdk";

const VERSION = "1.0.0";
const sessions = new Map(); // id -> {cwd, cancel: AbortController | null}
const text = (value) => ({ type: "text", text: value });

// Ids that say the opposite of the kind, as in the Python echo: a host that chooses by id is found out.
const OPTIONS = [
  { optionId: "reject", name: "Yes, this once", kind: "allow_once" },
  { optionId: "0", name: "Yes, from now on", kind: "allow_always" },
  { optionId: "allow", name: "Not this time", kind: "reject_once" },
];

class Turn {
  constructor(client, sessionId, signal) {
    Object.assign(this, { client, sessionId, signal, cwd: sessions.get(sessionId).cwd });
  }

  update(update) {
    return this.client.notify(methods.client.session.update, { sessionId: this.sessionId, update });
  }

  say(value) {
    return this.update({ sessionUpdate: "agent_message_chunk", content: text(value) });
  }

  pause(seconds) {
    return sleep(seconds * 1000, undefined, { signal: this.signal });
  }
}

const directives = {
  async slow(turn, [count = "10", delay = "0.2"]) {
    for (let number = 1; number <= Number(count); number += 1) {
      await turn.say(`${number} `);
      await turn.pause(Number(delay));
    }
  },

  async plan(turn) {
    const names = ["Read the question", "Think about it", "Say it again"];
    for (let done = 0; done <= names.length; done += 1) {
      const status = (place) => (place < done ? "completed" : place === done ? "in_progress" : "pending");
      const entries = names.map((content, place) => ({ content, priority: "medium", status: status(place) }));
      await turn.update({ sessionUpdate: "plan", entries });
    }
    await turn.say("planned ");
  },

  async tool(turn) {
    const path = resolve(turn.cwd, "notes.md");
    const call = { toolCallId: "tool-1", title: "Edit notes.md", kind: "edit", locations: [{ path }] };
    await turn.update({ sessionUpdate: "tool_call", ...call, status: "pending" });
    const change = { sessionUpdate: "tool_call_update", toolCallId: "tool-1" };
    await turn.update({ ...change, status: "in_progress" });
    const content = [
      { type: "content", content: text("Changed one line.") },
      { type: "diff", path, oldText: "one\ntwo\n", newText: "one\ntwo\nthree\n" },
    ];
    await turn.update({ ...change, status: "completed", content });
    await turn.say("tool completed ");
  },

  async permission(turn, [verb, name, ...words]) {
    const path = verb === "write" ? resolve(turn.cwd, name) : null;
    const title = path ? `Write ${name}` : "Make tea";
    const toolCall = { toolCallId: "ask-1", title, kind: path ? "edit" : "execute", status: "pending" };
    await turn.update({ sessionUpdate: "tool_call", ...toolCall });
    const params = { sessionId: turn.sessionId, toolCall, options: OPTIONS };
    const { outcome } = await turn.client.request(methods.client.session.requestPermission, params);
    if (outcome.outcome === "cancelled") throw new DOMException("cancelled", "AbortError");
    const kind = OPTIONS.find((option) => option.optionId === outcome.optionId)?.kind ?? "unknown";
    const allowed = kind.startsWith("allow");
    if (path && allowed) await writeFile(path, words.join(" "));
    const status = allowed ? "completed" : "failed";
    await turn.update({ sessionUpdate: "tool_call_update", toolCallId: "ask-1", status });
    await turn.say(`permission: ${kind} `);
  },

  crash(_turn, [how = "70"]) {
    process.stderr.write(`echo-node: ending as asked: ${how}\n`);
    if (/^\d+$/.test(how)) process.exit(Number(how));
    process.kill(process.pid, how);
    return sleep(10_000); // until the signal arrives
  },
};

// The directives at the start of the prompt, one per line, then the rest word by word.
async function play(turn, prompt) {
  let rest = prompt;
  let ran = false;
  while (rest.startsWith("/")) {
    const [line, ...following] = rest.split("\n");
    const [name, ...words] = line.slice(1).trimEnd().split(" ");
    if (!Object.hasOwn(directives, name)) break;
    await directives[name](turn, words);
    rest = following.join("\n");
    ran = true;
  }
  if (!rest && ran) return;
  for (const word of `echo: ${rest}`.match(/\s*\S+|\s+/g)) await turn.say(word);
}

async function answer({ params, client, signal }) {
  const session = sessions.get(params.sessionId);
  if (!session) throw new RequestError(-32002, "Resource not found");
  if (session.cancel) throw new RequestError(-32600, "A turn is running in this session");
  session.cancel = new AbortController();
  const turn = new Turn(client, params.sessionId, AbortSignal.any([signal, session.cancel.signal]));
  try {
    await play(turn, params.prompt.filter((block) => block.type === "text").at(-1)?.text ?? "");
    return { stopReason: "end_turn" };
  } catch (error) {
    if (error.name !== "AbortError") throw error;
    return { stopReason: "cancelled" };
  } finally {
    session.cancel = null;
  }
}

function create({ params }) {
  const sessionId = `echo-node-${randomBytes(8).toString("hex")}`;
  sessions.set(sessionId, { cwd: params.cwd, cancel: null });
  return { sessionId };
}

const connection = agent({ name: "echo-node" })
  .onRequest(methods.agent.initialize, () => ({
    protocolVersion: PROTOCOL_VERSION,
    agentInfo: { name: "echo-node", title: "Echo in Node", version: VERSION },
    agentCapabilities: { loadSession: false, promptCapabilities: { embeddedContext: true } },
    authMethods: [],
  }))
  .onRequest(methods.agent.authenticate, () => ({}))
  .onRequest(methods.agent.session.new, create)
  .onRequest(methods.agent.session.prompt, answer)
  .onNotification(methods.agent.session.cancel, ({ params }) => sessions.get(params.sessionId)?.cancel?.abort())
  .connect(ndJsonStream(Writable.toWeb(process.stdout), Readable.toWeb(process.stdin)));

await connection.closed;
process.exit(0);
