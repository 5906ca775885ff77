// A client of `opagent acp` made of the TypeScript SDK, which validates every message: plays a script and prints what it saw, as JSON.
// Arguments: the directory, then the command. The SDK is found from the working directory.
import { spawn } from "node:child_process";
import { createRequire } from "node:module";
import { Readable, Writable } from "node:stream";
import { pathToFileURL } from "node:url";

const sdk = createRequire(`${process.cwd()}/`).resolve("@agentclientprotocol/sdk");
const acp = await import(pathToFileURL(sdk).href);
const [directory, ...command] = process.argv.slice(2);
const child = spawn(command[0], command.slice(1), { stdio: ["pipe", "pipe", "inherit"], cwd: directory });
const stream = acp.ndJsonStream(Writable.toWeb(child.stdin), Readable.toWeb(child.stdout));
const seen = { updates: [], questions: [], forms: [] };

const app = acp
  .client({ name: "test" })
  .onRequest("session/request_permission", ({ params }) => {
    seen.questions.push(params);
    return { outcome: { outcome: "selected", optionId: params.options.find((one) => one.kind === "allow_once").optionId } };
  })
  .onRequest("elicitation/create", ({ params }) => {
    seen.forms.push(params);
    return { action: "accept", content: { answer: "blue" } };
  })
  .onNotification("session/update", ({ params }) => {
    seen.updates.push(params.update);
  });

await app.connectWith(stream, async (agent) => {
  const clientCapabilities = {
    auth: { terminal: true },
    elicitation: { form: {} },
    session: { notices: {}, configOptions: { boolean: {} } },
  };
  seen.hello = await agent.request("initialize", { protocolVersion: acp.PROTOCOL_VERSION, clientCapabilities });
  seen.made = await agent.request("session/new", { cwd: directory, mcpServers: [] });
  const sessionId = seen.made.sessionId;
  const say = (text) => agent.request("session/prompt", { sessionId, prompt: [{ type: "text", text }] });
  seen.stops = [];
  for (const text of ["hello", "/thought a\n/plan\n/tool\n/usage 5 7\nwords", "/permission", "/question red blue", "/refuse"]) {
    seen.stops.push((await say(text)).stopReason);
  }
  const waiting = say("/wait");
  while (!seen.updates.some((one) => one.content?.text?.startsWith("waiting"))) await new Promise((done) => setTimeout(done, 20));
  await agent.notify("session/cancel", { sessionId });
  seen.stops.push((await waiting).stopReason);
  await agent.request("session/set_mode", { sessionId, modeId: "echo" });
  seen.options = await agent.request("session/set_config_option", { sessionId, configId: "model", value: "upper" });
  seen.listed = await agent.request("session/list", { cwd: directory });
  const before = seen.updates.length;
  seen.loaded = await agent.request("session/load", { sessionId, cwd: directory, mcpServers: [] });
  seen.history = seen.updates.slice(before);
  seen.pong = await agent.request("_opagent/ping", {});
  seen.unknown = await agent.request("session/teleport", {}).catch((error) => error.code);
  await agent.request("session/close", { sessionId });
  await agent.request("session/delete", { sessionId });
});
child.stdin.end();
child.on("exit", (code) => {
  seen.exit = code;
  process.stdout.write(JSON.stringify(seen));
});
