"""One opened directory: its binding as it is now, whether it may act, and how its agents are launched; starts nothing."""

from __future__ import annotations

import functools
import hashlib
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from opagent import files, paths
from opagent.acp.permission import Permission
from opagent.binding import load
from opagent.daemon import claims
from opagent.daemon.agent import Role
from opagent.daemon.runtimes import Runtimes, nearest
from opagent.errors import AbilityUnseen, FileRefused, NoBinding, NotFound, NotTrusted, OpAgentError
from opagent.model import Binding, Capabilities, Conversation, Decision, Effect, Layer, ProcessId, RuntimeSpec, Trust, TrustRecord
from opagent.packages import ability, catalog
from opagent.policy import rules
from opagent.policy.decide import FLOOR, decide
from opagent.process import environment
from opagent.process.states import Policy
from opagent.process.supervisor import Launch
from opagent.store import trust as trust_rows
from opagent.store.database import Database
from opagent.store.remembered import Remembered

IDLE_STOP = 900.0  # seconds; runtime.yaml may say otherwise
READY_WITHIN = 30.0


class Workspace:
    """A look at a directory: `loaded` is what stands in the files, `binding` the part of it that may act at this moment."""

    def __init__(self, loaded: load.Loaded, verdict: load.Verdict, record: TrustRecord | None, client: Mapping[str, str]) -> None:
        self.loaded, self.verdict, self.record = loaded, verdict, record
        self.client_environment = dict(client)

    @classmethod
    def resolve(
        cls,
        target: str,
        agent: str | None,
        client: Mapping[str, str] | None,
        database: Database,
        default_agent: str | None = None,
    ) -> Workspace:
        """Find, load and judge. `agent` runs a directory without a binding once; so does `default_agent`, of an old conversation.

        Raises NotFound, NoBinding, WorkspaceRefused, BindingInvalid.
        """
        known: dict[str, str] = dict(client or {})
        home = os.path.expanduser("~")
        runtimes = Runtimes(known.get("PATH", os.defpath), nearest(os.path.realpath(target)))
        try:
            loaded = load.load(target, home=home, runtimes=runtimes, agent=agent)
        except NoBinding:
            chosen = agent or default_agent
            if chosen is None:
                raise
            loaded = load.unbound(target, chosen, home=home, runtimes=runtimes)

        def recorded(path: str) -> TrustRecord | None:
            return database.read(lambda db: trust_rows.get(db, path))

        return cls(loaded, load.judge(loaded, recorded), recorded(loaded.workspace), known)

    # ---- what it is ------------------------------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        return self.loaded.workspace

    @property
    def focus(self) -> str:
        return self.loaded.focus

    @property
    def binding(self) -> Binding:
        return self.verdict.binding

    @property
    def _bound(self) -> bool:
        """Whether a file of the directory says which agent; not so when it was opened once with `--agent`."""
        return any(os.path.dirname(each.path) == self.path for each in self.loaded.chain)

    @property
    def trust(self) -> Trust:
        return self.verdict.state

    @property
    def notices(self) -> list[str]:
        said = list(self.loaded.notes)
        if self.verdict.acts and self.trust in (Trust.UNKNOWN, Trust.CHANGED, Trust.DENIED):
            said.append(f"{self.path}/{paths.BINDING} is not trusted: only its limits apply")
        return said

    @property
    def is_vault(self) -> bool:
        """Whether a note-taking program that folds callouts, not HTML, keeps its directory here or above."""
        return any((parent / ".obsidian").is_dir() for parent in (Path(self.path), *Path(self.path).parents))

    def role_name(self, agent: str | None) -> str:
        """Raises NotFound when nothing says which agent."""
        name = agent or self.binding.agent
        if name is None:
            raise NotFound(
                f"no agent is named for {self.path}", "the binding has no `agent:`", f"opagent explain {shlex.quote(self.path)}"
            )
        load.role(self.binding, name, self.loaded.runtimes)
        return name

    def runtime(self, role: str) -> RuntimeSpec:
        """Raises NotFound, RuntimeInvalid."""
        return catalog.find(load.role(self.binding, role, self.loaded.runtimes).runtime)

    def runtime_name(self, role: str) -> str:
        try:
            return load.role(self.binding, role, self.loaded.runtimes).runtime
        except NotFound:
            return role

    def argv(self, role: str) -> tuple[str, ...]:
        """Raises RuntimeNotInstalled."""
        spec = self.runtime(role)
        state = str(paths.agent_state(self.path, spec.name))
        return catalog.installed(spec, self.client_environment.get("PATH", os.defpath), (self.path,), state)

    # ---- trust -----------------------------------------------------------------------------------------------------------

    def require_trust(self, agent: str | None) -> None:
        """Raises NotTrusted when what would be started here needs trust that nobody gave."""
        role = self.role_name(agent)
        spec = self.runtime(role)
        foreign = not self.loaded.runtimes.facts(self.runtime_name(role)).ours and self.trust is not Trust.ALLOWED
        if self.verdict.acts and not foreign:
            return
        reasons = [f"{file.path}: {', '.join(file.needs_trust)}" for file in self.loaded.facts.chain] + list(
            self.loaded.facts.doubts
        )
        if foreign and not reasons:
            reasons = [f"the runtime {spec.name} does not come with OpAgent, and says itself what it runs"]
        state = {Trust.CHANGED: "has changed since it was trusted", Trust.DENIED: "was denied"}.get(self.trust, "is not trusted")
        chosen = f" --agent {agent}" if agent is not None and not self._bound else ""
        raise NotTrusted(f"{self.path} {state}", "; ".join(reasons), f"opagent trust {shlex.quote(self.path)}{chosen}")

    def needs(self, role: str) -> tuple[str, ...]:
        """Abilities that its runtime must have been seen to have."""
        return load.role(self.binding, role, self.loaded.runtimes).needs

    def _require_abilities(self, agent: str) -> None:
        """Raises AbilityUnseen for what the binding needs and no probe of this version saw."""
        if not (needs := self.needs(agent)):
            return
        spec = self.runtime(agent)
        record = ability.read(ability.key(spec, self.argv(agent)))
        if lacking := ability.lacking(needs, record):
            seen = f"the probe of {record.at} did not see that" if record is not None else "this version of it was not probed"
            what = f"{spec.name} was not seen to do what the binding needs: {'; '.join(lacking)}"
            raise AbilityUnseen(what, seen, f"opagent runtime probe {self.runtime_name(agent)}")

    # ---- launching -------------------------------------------------------------------------------------------------------

    def environment_of(self, conversation: Conversation, process: ProcessId) -> dict[str, str]:
        spec = self.runtime(conversation.agent)
        state = str(paths.agent_state(self.path, spec.name))
        given = self.client_environment or {"HOME": os.path.expanduser("~")}
        return environment.build(given, self.binding.capabilities.env, spec, process=process, state=state, workspace=self.path)

    def launch(self, process: ProcessId, conversation: Conversation) -> tuple[Launch, Role]:
        """What to start for a conversation. Raises NotTrusted, RuntimeNotInstalled, NotFound, AgentFailed."""
        self.require_trust(conversation.agent)
        self._require_abilities(conversation.agent)
        spec = self.runtime(conversation.agent)
        role = load.role(self.binding, conversation.agent, self.loaded.runtimes)
        files.private_directory(paths.agent_state(self.path, spec.name))
        files.private_directory(paths.agent_log(process).parent)
        argv = self.argv(conversation.agent)
        launch = Launch(process, argv, self.path, self.environment_of(conversation, process), paths.agent_log(process))
        session = Role(
            runtime=spec.name,
            cwd=self.path,
            services=spec.client,
            model=role.model,
            mode=role.mode or spec.quirks.get("mode"),
            signin=spec.signin,
            ready_within=spec.timeouts.get("ready", READY_WITHIN),
            own=self._own(conversation),
            comes_back=spec.quirks.get("load") is not False,
        )
        return launch, session

    def _own(self, conversation: Conversation) -> dict[str, Any]:
        """`_meta.opagent` of a session: what our own runtimes keep to by themselves."""
        capabilities = self.binding.capabilities
        layers = [each for each in (*capabilities.ceilings, *capabilities.defaults, *capabilities.chain) if each.name != FLOOR]
        top = capabilities.chain[0].kinds.get("read") if capabilities.chain else None
        default = top.default.word if top is not None and top.default is not None else "allow"
        read = {"deny": self._seen(layers, "deny"), "ask": self._seen(layers, "ask"), "allow": [], "default": default}
        if default != "allow":
            read["allow"] = self._seen(capabilities.chain[:1], "allow")
        return {"read": read, "conversations": self.binding.conversations, "focus": self.focus, "conversation": conversation.path}

    def _seen(self, layers: Sequence[Layer], effect: str) -> list[str]:
        """The read patterns of all layers as one list of the workspace's own file would say them.

        A `!` takes out of its own layer's list only, so in one list only the first layer may have any.
        """
        found: list[str] = []
        for layer in layers:
            patterns = getattr(layer.kinds.get("read"), effect, ())
            seen = [rules.seen_from(pattern, layer.base, self.path) for pattern in patterns]
            found += [each for each in seen if each is not None and not (found and each.startswith("!"))]
        return found

    def instructions(self, role: str) -> str:
        """What the directory tells an agent, from the top of the chain down, then the role's own words."""
        pieces = [piece.text.strip() for piece in self.binding.instructions]
        own = load.role(self.binding, role, self.loaded.runtimes).instructions
        return "\n\n".join(filter(None, [*pieces, (own or "").strip()]))

    def comes_with_us(self, role: str) -> bool:
        """Whether the role's whole program comes with OpAgent, so that it needs nothing of a client's environment."""
        try:
            return self.loaded.runtimes.facts(self.runtime_name(role)).ours
        except OpAgentError:
            return True  # starting it says why not

    @property
    def restart_policy(self) -> Policy:
        return Policy(str(self.binding.supervise.get("restart", Policy.ON_FAILURE)))

    def idle_stop(self, role: str) -> float:
        try:
            return self.runtime(role).timeouts.get("idle_stop", IDLE_STOP)
        except OpAgentError:
            return IDLE_STOP

    # ---- policy ----------------------------------------------------------------------------------------------------------

    def absolute(self, path: str) -> str:
        """Of what an agent names."""
        return os.path.normpath(os.path.join(self.path, path))

    def decide(self, kind: str, request: str | tuple[str, ...]) -> Decision:
        return decide(self.binding.capabilities, kind, request)

    @functools.cached_property
    def deciding(self) -> str:
        """A digest of everything that decides here, every layer: an answer that is remembered holds while it is the same."""
        return hashlib.sha256(f"{self.binding.digest}\n{self.binding.capabilities!r}".encode()).hexdigest()

    def decide_permission(self, permission: Permission, remembered: Remembered | None, confined: bool) -> Decision:
        """An agent's question: a rule that denies what it names decides at once, and so does what a person said before.

        What the agent names is a claim. Only where a sandbox holds it whatever it does may a rule answer yes for a person,
        and a default never does.
        """
        said = [self.decide(kind, request) for kind, request in claims.of(permission, self.path)]
        strictest = max(said, key=lambda each: each.effect, default=None)
        if strictest is not None and strictest.effect is Effect.DENY:
            return replace(strictest, enforcement="acp")
        if remembered is not None:
            return earlier(remembered)
        if strictest is not None and strictest.effect is Effect.ASK:
            return replace(strictest, enforcement="acp")
        if confined and said and all(each.pattern for each in said):
            return replace(said[0], enforcement="acp")
        why = "no rule allows it" if confined else "without a sandbox every question goes to a person"
        return Decision(Effect.ASK, why, "built-in", "acp")

    def approval_timeout(self) -> tuple[float, bool]:
        """Seconds a question waits, and whether it waits on after them."""
        said = self.binding.approvals
        return float(said.get("timeout", 600.0)), said.get("on_timeout") == "keep"

    def narrowed(self, within: tuple[Capabilities, ...], strict: bool) -> Workspace:
        """For an agent that another one called: nothing here allows it what its callers may not do."""
        if not within and not strict:
            return self
        binding = self.binding
        binding = replace(binding, capabilities=replace(binding.capabilities, within=within))
        if strict:  # a caller is held like that, so it works on this machine
            binding = replace(binding, sandbox={**binding.sandbox, "level": "strict"})
        return Workspace(self.loaded, replace(self.verdict, binding=binding), self.record, self.client_environment)

    # ---- files -----------------------------------------------------------------------------------------------------------

    def conversations_directory(self) -> str:
        """The directory of the conversation files, made when it is missing. Raises FileRefused for a link out of here."""
        folder = Path(self.path) / self.binding.conversations
        real = os.path.realpath(folder)
        if real != self.path and not real.startswith(self.path.rstrip("/") + "/"):
            raise FileRefused(f"{folder} leads out of the workspace", f"to {real}", f"ls -ld {folder}")
        try:
            os.makedirs(real, exist_ok=True)
        except OSError as error:
            raise FileRefused(f"{folder} cannot be made", error.strerror or "", f"ls -ld {self.path}") from error
        return real

    def blobs_from(self, path: str) -> str:
        """The way from a conversation file to the whole outputs of its tools."""
        return os.path.relpath(Path(self.path) / paths.WORK / "blobs", Path(path).parent) + "/"


def earlier(answer: Remembered) -> Decision:
    """The decision that a person's remembered answer is."""
    where = "here" if answer.conversation is None else "in this conversation"
    return Decision(answer.effect, f"your earlier answer {where} ({answer.approval or answer.id})", "remembered", "acp")
