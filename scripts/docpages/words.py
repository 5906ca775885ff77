"""What the code does not say about its own tables: one sentence for each place and each kind of event."""

from __future__ import annotations

from opagent import paths
from opagent.model import Kind

# function of paths.py -> (permissions, what it is for); the order is that of the page
FILES = {
    "state": ("0700", "The state directory: everything the daemon must remember. On this machine's own disk."),
    "database": ("0600", "The state database (SQLite): journal, conversations, turns, approvals, trust."),
    "daemon_log": ("0600", "The daemon's log."),
    "installed_runtimes": (
        "0700",
        "One directory per installed runtime, with its [versions](../concepts/packages.md), and `.staging/`.",
    ),
    "runtime_registry": ("0600", "The list of agents that `opagent runtime list --registry URL` fetched last."),
    "audit_key": ("0600", "Seals the heads of the [record](../concepts/record.md). Made once."),
    "client_log": ("0600", "Traces of bugs of the command line."),
    "chat_history": ("0600", "What you typed in chats, for the arrow keys."),
    "host_id_file": ("0600", "A random name of this machine, made once."),
    "secrets_key": ("0600", "Makes the fingerprints of [secrets](../concepts/secrets.md) in the journal."),
    "runs": ("0700", "One directory per machine and boot, those of earlier boots are removed."),
    "run": (
        "0700",
        "Socket and locks. MACHINE and BOOT begin the ids of machine and boot; a container adds a third.",
    ),
    "socket": ("0600", "The daemon's socket. Only processes of the same user are heard."),
    "lock": ("0600", "Held by a command while it starts the daemon."),
    "daemon_code": ("0600", "The digest of the code the daemon runs (`-`: installed), and its version."),
    "daemon_pid": ("0600", "Held by the daemon for as long as it lives; holds its process id."),
    "config": ("yours", "Your configuration. OpAgent only reads it."),
    "user_config": ("yours", "Defaults and ceilings for every directory: the keys of [`.agent.yaml`](agent-yaml.md)."),
    "anchor_program": ("0700", "A program of yours that is given each head of the [record](../concepts/record.md)."),
    "machine_policy": ("root's", "Ceilings for every user of the machine: the same keys."),
    "journald": ("root's", "Where the journal of systemd listens; it is given heads of the [record](../concepts/record.md)."),
    "syslog": ("root's", "The same of syslog, where there is no journal."),
    "data": ("yours", "Runtimes that you installed, below `runtimes/`."),
    "bundled_runtimes": ("", "Runtimes that come with OpAgent."),
    "bundled_workspaces": ("", "Templates of `opagent init`."),
}
BESIDE = {
    "database_lock": "Beside the database: held by the one process that uses it.",
    "database_head": "Beside the database: where the journal ended; shows that a database lost its end.",
    "database_ballast": 'Beside the database: bytes given back to a full disk, so that "disk full" can be recorded.',
    "database_copy": "Beside the database: its [copy](../concepts/record.md#a-copy-every-day) of yesterday or today.",
    "local": "For a state that would lie on NFS, SMB or FUSE (`state-HASH/` below it), and for long socket paths.",
    "machine_socket": "One for each machine that is [linked](../concepts/remote.md); it leads to the daemon there.",
    "agent_sockets": "The sockets of one agent: all of `run` that it sees, as `/run/opagent`.",
    "agent_tools": (
        "Where one agent calls others, asks you and shares notes; `token` beside it says who speaks, `opagent` is its command for"
        " that ([calls](../concepts/calls.md))."
    ),
    "agent_network": "The way of one agent to the [proxy](../concepts/network.md).",
    "probes": "What runtimes were seen to do: a directory for each, a file for each of its versions.",
    "payload_cache": "What [other machines](../concepts/remote.md) are given, packed once.",
    "python_archives": "Portable Pythons for [other machines](../concepts/remote.md), by `uv`. Remove them for newer ones.",
    "database_blobs": "Beside the database: large bodies of events, by digest.",
    "agent_log": "What one process wrote to stderr; `opagent logs` shows it. Kept 7 days, the last 20 of a conversation longer.",
    "agent_state": "What a runtime keeps for one workspace.",
    "agent_home": "What it keeps of its home directory there: `state:` of its description, with copies of `from_home:`.",
    "agent_gits": "The `.git` that each agent [sees](../concepts/sandbox.md#its-git). Emptied when a daemon starts.",
    "agent_git": "The one of a process.",
    "landlock_home": "The home directory of a program at level `landlock`.",
    "sandbox_probe": "That the sandbox works here, as of this boot, kernel and `bwrap`.",
}
WORKSPACE = {
    paths.BINDING: "The [binding](../concepts/binding.md). Yours; no agent may write it.",
    paths.CONVERSATIONS: "One Markdown file per [conversation](../concepts/conversation.md). The binding may name another place.",
    f"{paths.CONVERSATIONS}.opagent-probe": "For a moment: shows whether [saves](../concepts/saves.md) there are told.",
    f"{paths.WORK}/": "Made by OpAgent, 0700, ignored by git (it holds a `.gitignore` of its own).",
    f"{paths.WORK}/tmp/": "New versions of a conversation file on their way.",
    f"{paths.WORK}/blobs/": "Whole outputs of tools; the conversation file holds excerpts and links.",
    f"{paths.WORK}/saves/": "Versions that were set aside, so that nothing a person typed is lost.",
}
KINDS = {
    Kind.TEXT: ("text", "A piece of the answer: cleaned, and without [secrets](../concepts/secrets.md)."),
    Kind.THOUGHT: ("text", "A piece of what the agent thinks aloud. In the log, not in the file."),
    Kind.TOOL_CALL: ("id, title?, name?, kind?, status?, content?, locations?, rawInput?, rawOutput?",
                     "A tool call begins or changes; only what changed is there. The fields are the protocol's own."),
    Kind.PLAN: ("entries: [{content, priority, status}]", "The whole plan, again at every change."),
    Kind.APPROVAL_ASKED: ("id, kind, subject, options, expires_at, rule, agent, offers, in_file, where?, action?, content?, "
                          "same?, wider?, call?",
                          "The agent waits for a person; kind `question`: for words; kind `pause`: whether it may ask on. "
                          "`same` and `wider` are what an answer may be remembered for."),
    Kind.APPROVAL_ANSWERED: ("id, state, scope, answered_by, via, reason, subject, answer?, same?, "
                             "where?: {uid, pid, tty, client}",
                             "A person answered, time ran out, or the agent is gone. An answer that the agent "
                             "did not get is followed by a second one: `void`."),
    Kind.USAGE: ("context: {used, size}, cost?", "How full the model's context is, and what it cost so far."),
    Kind.TURN_STATE: ("state, message, author?, text?, via?, agent?, usage?, reason?, sentence?, hint?, delivered?",
                      "The turn was queued, runs, waits or has ended. What was typed stands in the first one. Who follows the "
                      "conversation hears of the end once the file shows it.\n\n"
                      "`delivered` is the approval whose answer the agent was just told."),
    Kind.AGENT_STATE: ("state?, runtime?, process?, sentence?, code?, hint?, commands?, session?, set?, refused?, ...",
                       "The process moved ([process life](../concepts/process-life.md)), or the agent told its commands. "
                       "`session` is what its session says of itself (modes, options), `set` the request of somebody's wish "
                       "that it took or `refused`."),
    Kind.DOCUMENT: ("what, region?, body?, latin1?, after?, text?, hint?, path?, state?, ...",
                    "Something about the conversation file; `what` says which of the things below."),
    Kind.NOTE: ("text, rule?, effect?", "A remark of OpAgent or of the agent. An event of an unknown kind arrives as a note."),
}  # fmt: skip

# what an event `document` tells -> (its fields, what happened)
DOCUMENTS = {
    "version": ("digest, size, seq, regions?, lines?, seen?, ...",
                "These bytes are about to stand in the file and show the events up to `seq`; the rest are digests."),
    "edited, reply_edited": ("region, body or latin1",
                             "A person changed a message or a finished reply; `latin1` where it is no UTF-8."),
    "deleted, restored": ("region", "A person took a turn out; one that their editor had never loaded was put back."),
    "reverted": ("region, body?", "Git brought an older version: another body, or no turn."),
    "imported": ("region, body, after?",
                 "A turn that no log here has stands in the file; also, with `turns`, a whole file that was taken in."),
    "moved_to_draft, not_kept": ("region",
                                 "What was typed into a running reply is in the draft; what a formatter made of it, in saves/."),
    "repaired, damaged": ("region?", "A marker was put back; markers are gone and cannot be."),
    "draft": ("state: waiting, refused or settled; since?, behind?, text?, draft?",
              "The draft waits behind these turns, or its gesture does not count (`text` says why), or neither any more."),
    "path": ("path", "The file was renamed or moved."),
    "forked": ("from, here, path", "The conversation began as a fork; `here`: of one whose turns are in this log."),
    "part": ("path, regions", "Older turns were moved to a part."),
    "stopped, made again, kept, linked, front matter": ("text, hint", "A person may have to do something: the text is for them."),
}  # fmt: skip
