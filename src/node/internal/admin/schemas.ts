/** What the admin API says and is told, as schemas: times are milliseconds, sizes are bytes, moments are on the wall clock. */
import * as Schema from "effect/Schema"
import { Reason } from "../../../ConnectionError.ts"
import { isSendable } from "../../../internal/reasons/closeCodes.ts"

const Num = Schema.Finite
const Text = Schema.String
const MaybeText = Schema.NullOr(Text)
const Load = Schema.Struct({ messages: Num, bytes: Num })

export const State = Schema.Literals(["open", "draining", "closing", "ended"])
export const Who = Schema.Literals(["peer", "us", "network", "program"])
export const ReasonTag = Schema.Literals(
  Reason.members.map(({ identifier }) => identifier) as ReadonlyArray<Reason["_tag"]>
)

const ofWorker = {
  /** The worker that has it, where there are several processes. */
  worker: Schema.optionalKey(Num)
}

const silent = {
  /** Numbers of the workers that did not answer: what they have is missing here. */
  silent: Schema.optionalKey(Schema.Array(Num))
}

/** One row of the list. Texts of peers are cleaned and cut; `tags` are the first 20 of `tagCount`. */
export const Row = Schema.Struct({
  id: Num,
  ...ofWorker,
  state: State,
  remote: MaybeText,
  local: MaybeText,
  key: MaybeText,
  tags: Schema.Array(Text),
  tagCount: Num,
  openedAt: Num,
  age: Num,
  /** How long ago the peer was last heard. */
  quietFor: Num,
  bytesIn: Num,
  bytesOut: Num,
  messagesIn: Num,
  messagesOut: Num,
  inbox: Load,
  outbox: Load,
  dropped: Num,
  lost: Num,
  /** Whether nothing is read, because the inbox is full. */
  paused: Schema.Boolean,
  rtt: Schema.NullOr(Schema.Struct({ last: Num, smoothed: Num })),
  /** The tag of the reason of its end, once there is one. */
  reason: Schema.NullOr(ReasonTag)
}).annotate({ identifier: "Connection" })

export const Page = Schema.Struct({
  /** How many match the filter, on all pages. */
  total: Num,
  offset: Num,
  limit: Num,
  /** When the list was made. */
  at: Num,
  connections: Schema.Array(Row),
  ...silent
}).annotate({ identifier: "ConnectionPage" })

/** Why it ended, and who ended it. */
export const End = Schema.Struct({
  reason: ReasonTag,
  /** What the peer may read of it, or what the system says of the network. */
  text: Text,
  retryable: Schema.Boolean,
  /** The numbers of the reason, such as the limit that was broken. */
  facts: Schema.Record(Text, Schema.Union([Num, Schema.Boolean])),
  who: Who,
  seenBy: MaybeText,
  deadline: MaybeText,
  told: Schema.NullOr(Schema.Struct({
    text: MaybeText,
    comeBack: Schema.Boolean,
    code: Num,
    advice: Schema.NullOr(Schema.Struct({ after: Num, spread: Num }))
  }))
}).annotate({ identifier: "End" })

const explained = {
  lastHeardAt: Num,
  lastWrittenAt: Schema.NullOr(Num),
  /** What was accepted and never left. */
  lostLoad: Load,
  end: Schema.NullOr(End),
  /** What happened to it lately, oldest first. */
  recent: Schema.Array(Schema.Struct({ at: Num, what: Text, detail: MaybeText, times: Num })),
  /** All of it as one sentence. */
  words: Text
}

export const Detail = Schema.Struct({
  ...Row.fields,
  ...explained,
  identity: Schema.NullOr(Schema.Struct({
    subject: Schema.Record(Text, Schema.Array(Text)),
    alternativeNames: Schema.Array(Text),
    fingerprint: Text
  })),
  fibers: Schema.Array(Schema.Struct({ name: Text, state: Text, worked: Num, direct: Num })),
  /** The rules that count now, in the order in which they would be broken; `left` is the time that is left. */
  deadlines: Schema.Array(Schema.Struct({ rule: Text, limit: Num, left: Num })),
  /** The policy in force, as `Policy.encode` writes it. */
  policy: Schema.Record(Text, Schema.Unknown)
}).annotate({ identifier: "ConnectionDetail" })

/** One that has ended. */
export const Ended = Schema.Struct({ ...Row.fields, ...explained, endedAt: Num }).annotate({ identifier: "Ended" })

export const EndedPage = Schema.Struct({
  offset: Num,
  limit: Num,
  ended: Schema.Array(Ended),
  /** How many of those that match ended for which reason, on all pages. */
  total: Num,
  byReason: Schema.Record(Text, Num),
  ...silent
}).annotate({ identifier: "EndedPage" })

/** How many connections are closed. */
export const Closed = Schema.Struct({ closed: Num, ...silent }).annotate({ identifier: "Closed" })

/** A worker, as its parent sees it: `silent`, it has not answered within 2 seconds, and what it counts is what it said last. */
export const Worker = Schema.Struct({
  number: Num,
  process: Schema.NullOr(Num),
  state: Schema.Literals(["answers", "silent"]),
  /** Connections of it that are open. */
  open: Num
}).annotate({ identifier: "Worker" })

/** What is counted now; `null` where nothing counts it: without `Metrics.layer`, or without a server. */
export const Figures = Schema.Struct({
  at: Num,
  connections: Schema.Struct({ open: Num, draining: Num, closing: Num }),
  registered: Num,
  /** Since the start. */
  totals: Schema.NullOr(Schema.Struct({
    opened: Num,
    ended: Num,
    accepted: Num,
    refused: Num,
    receivedBytes: Num,
    sentBytes: Num,
    receivedMessages: Num,
    sentMessages: Num,
    lostMessages: Num,
    droppedMessages: Num
  })),
  outbox: Load,
  inbox: Load,
  memory: Schema.Struct({ rss: Num, heapUsed: Num }),
  uptime: Num,
  /** Each process, where there are several: what is above is their sum. */
  workers: Schema.optionalKey(Schema.Array(Worker))
}).annotate({ identifier: "Figures" })

const Left = Schema.Struct({ opening: Num, open: Num, draining: Num, closing: Num, ended: Num })

export const Server = Schema.Struct({
  name: Text,
  phase: Schema.Literals(["idle", "serving", "stopping", "stopped"]),
  connections: Left,
  /** Connections of it that are left. */
  left: Num,
  waiting: Num,
  opened: Num,
  refused: Schema.Record(Text, Num)
}).annotate({ identifier: "Server" })

/** Whether a drain can be begun here, whether one goes on, and how far it is. */
export const Drain = Schema.Struct({ possible: Schema.Boolean, begun: Schema.Boolean, servers: Schema.Array(Server) })
  .annotate({ identifier: "Drain" })

export const Pool = Schema.Struct({
  name: Text,
  open: Num,
  idle: Num,
  inUse: Num,
  checking: Num,
  dialing: Num,
  closing: Num,
  waiting: Num,
  hits: Num,
  misses: Num,
  waits: Num,
  waitTime: Num,
  timeouts: Num,
  rejected: Num,
  dials: Num,
  dialTime: Num,
  dialFailures: Num,
  checks: Num,
  leaks: Num,
  retired: Schema.Record(Text, Num)
}).annotate({ identifier: "Pool" })

export const Dispatcher = Schema.Struct({
  name: Text,
  workers: Num,
  busy: Num,
  waiting: Num,
  succeeded: Num,
  failed: Num,
  interrupted: Num,
  refused: Num
}).annotate({ identifier: "Dispatcher" })

/** A policy by its name, as `Policy.encode` writes it. */
export const NamedPolicy = Schema.Struct({ name: Text, policy: Schema.Record(Text, Schema.Unknown) })
  .annotate({ identifier: "NamedPolicy" })

const names = { id: Num, key: MaybeText, tags: Schema.Array(Text) }

/**
 * What changes. `Current` comes first, and again in place of changes that a slow reader missed: then the list is to be read
 * again. `Figures` come every second.
 */
export const Change = Schema.Union([
  Schema.Struct({ _tag: Schema.Literal("Current"), registered: Num, missed: Num }),
  Schema.Struct({
    _tag: Schema.Literal("Added"),
    ...names,
    superseded: Schema.NullOr(Num),
    connection: Schema.NullOr(Row)
  }),
  Schema.Struct({ _tag: Schema.Literal("Tagged"), ...names, added: Schema.Array(Text), removed: Schema.Array(Text) }),
  Schema.Struct({ _tag: Schema.Literal("Ended"), ...names, reason: Schema.NullOr(ReasonTag), connection: Row }),
  Schema.Struct({ _tag: Schema.Literal("Figures"), figures: Figures, servers: Schema.Array(Server) })
]).annotate({ identifier: "Change" })

// ---------------------------------------------------------------------------------------------------------------------
// what is asked
// ---------------------------------------------------------------------------------------------------------------------

/** The most entries on one page. */
export const mostEntries = 1000

const Whole = Schema.Int.check(Schema.isGreaterThanOrEqualTo(0))
const Short = Text.check(Schema.isMaxLength(256))
const Limit = Schema.Int.check(Schema.isBetween({ minimum: 1, maximum: mostEntries }))

export const paging = { offset: Schema.optionalKey(Whole), limit: Schema.optionalKey(Limit) }

/** Which connections: those that match all that is given. */
export const filter = {
  state: Schema.optionalKey(State),
  key: Schema.optionalKey(Short),
  tag: Schema.optionalKey(Short),
  /** What the remote address has in it. */
  remote: Schema.optionalKey(Short),
  /** What the id, the key, a tag or the remote address has in it. */
  text: Schema.optionalKey(Short),
  /** At least so old. */
  olderThan: Schema.optionalKey(Whole),
  /** Not heard for at least so long. */
  quietFor: Schema.optionalKey(Whole)
}

export const SortBy = Schema.Literals([
  "id",
  "age",
  "quietFor",
  "bytesIn",
  "bytesOut",
  "messagesIn",
  "messagesOut",
  "inbox",
  "outbox",
  "dropped",
  "rtt",
  "key",
  "remote",
  "state"
])

export const Query = Schema.Struct({
  ...filter,
  ...paging,
  sort: Schema.optionalKey(SortBy),
  order: Schema.optionalKey(Schema.Literals(["asc", "desc"]))
})

export const Filter = Schema.Struct(filter)

export const EndedQuery = Schema.Struct({
  ...paging,
  id: Schema.optionalKey(Whole),
  key: Schema.optionalKey(Short),
  tag: Schema.optionalKey(Short),
  remote: Schema.optionalKey(Short),
  reason: Schema.optionalKey(ReasonTag),
  who: Schema.optionalKey(Who),
  deadline: Schema.optionalKey(Schema.Literals(["silence", "pong", "frame", "idle", "write", "age", "drain"])),
  /** When it ended, at the earliest and at the latest. */
  since: Schema.optionalKey(Num),
  until: Schema.optionalKey(Num)
})

/** How a connection is closed. Without a `code` the text stays here, for logs and the history; with one the peer reads it. */
export const closing = {
  reason: Schema.optionalKey(Text.check(Schema.isMaxLength(120))),
  code: Schema.optionalKey(
    Schema.Int.check(Schema.makeFilter(isSendable, { expected: "one of 1000-1003, 1007-1014 or 3000-4999" }))
  ),
  /** Whether the peer is told to come back, where its protocol can say so. */
  comeBack: Schema.optionalKey(Schema.Boolean)
}

export const Closing = Schema.Struct(closing)

/** Which connections are closed: those of `ids`, or those that match `where`, one of which must be given. */
export const ClosingMany = Schema.Struct({
  ...closing,
  ids: Schema.optionalKey(Schema.Array(Whole).check(Schema.isMaxLength(mostEntries))),
  where: Schema.optionalKey(Filter)
})

// ---------------------------------------------------------------------------------------------------------------------
// what goes wrong
// ---------------------------------------------------------------------------------------------------------------------

export class NotFound extends Schema.TaggedError<NotFound>()("NotFound", { message: Text }, { httpApiStatus: 404 }) {}

export class Invalid extends Schema.TaggedError<Invalid>()("Invalid", { message: Text }, { httpApiStatus: 400 }) {}

/** What is asked for is not there in this program. */
export class NotOffered
  extends Schema.TaggedError<NotOffered>()("NotOffered", { message: Text }, { httpApiStatus: 409 })
{}

/** The worker that has it does not answer. */
export class NoAnswer extends Schema.TaggedError<NoAnswer>()("NoAnswer", { message: Text }, { httpApiStatus: 503 }) {}

export type Row = typeof Row.Type
export type Closed = typeof Closed.Type
export type Worker = typeof Worker.Type
export type Page = typeof Page.Type
export type Detail = typeof Detail.Type
export type End = typeof End.Type
export type Ended = typeof Ended.Type
export type EndedPage = typeof EndedPage.Type
export type Figures = typeof Figures.Type
export type Server = typeof Server.Type
export type Drain = typeof Drain.Type
export type Change = typeof Change.Type
export type Query = typeof Query.Type
export type Filter = typeof Filter.Type
export type EndedQuery = typeof EndedQuery.Type
export type Closing = typeof Closing.Type
export type ClosingMany = typeof ClosingMany.Type
export type Pool = typeof Pool.Type
export type Dispatcher = typeof Dispatcher.Type
export type NamedPolicy = typeof NamedPolicy.Type
