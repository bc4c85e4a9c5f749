/** What a network looks like at one moment, and how to print it. */
import type { Core } from "../tcp/connection.ts"
import type { End } from "../tcp/endpoint.ts"

/**
 * One end of a connection. Sizes are bytes.
 *
 * @category models
 * @since 0.1.0
 */
export interface EndSnapshot {
  readonly address: string
  /**
   * As `netstat` says it; `GONE`: vanished, without anybody knowing. `CLOSED` is an end that is over while the other one
   * is not.
   */
  readonly state: "SYN_SENT" | "SYN_RECV" | "ESTABLISHED" | "FIN_WAIT" | "CLOSE_WAIT" | "LAST_ACK" | "CLOSED" | "GONE"
  /** Received by the host and not read. */
  readonly receiveQueue: number
  /** In the send buffer: not sent, or not acknowledged. */
  readonly sendQueue: number
  /** Written, with no room in the send buffer. */
  readonly unsent: number
  /** Whether somebody waits for bytes to read. */
  readonly reading: boolean
  /** How many writes wait for room. */
  readonly writing: number
  /** Whether something of it was lost and will be sent again. */
  readonly retransmitting: boolean
}

/**
 * A network at one moment.
 *
 * @category models
 * @since 0.1.0
 */
export interface Snapshot {
  /** Milliseconds since the network was made. */
  readonly at: number
  readonly hosts: ReadonlyArray<{
    readonly name: string
    readonly address: string
    readonly isUp: boolean
    readonly isStalled: boolean
  }>
  readonly listeners: ReadonlyArray<{
    readonly address: string
    /** Connections that nobody has accepted yet. */
    readonly queued: number
    readonly backlog: number
  }>
  /** Directions that packets have travelled, or could. */
  readonly links: ReadonlyArray<{
    readonly from: string
    readonly to: string
    readonly state: "open" | "cut" | "held"
    /** On their way. */
    readonly packets: number
    readonly bytes: number
    /** Stopped at the far end. */
    readonly held: number
  }>
  readonly connections: ReadonlyArray<{
    readonly id: number
    readonly client: EndSnapshot
    readonly server: EndSnapshot
  }>
}

const stateOf = (end: End): EndSnapshot["state"] => {
  if (end.isGone) return "GONE"
  if (end.phase === "over") return "CLOSED"
  if (end.phase === "opening") return end.isPassive ? "CLOSED" : "SYN_SENT"
  if (end.greeted !== undefined) return "SYN_RECV"
  if (end.outgoing.isFinished) return end.finReceived ? "LAST_ACK" : "FIN_WAIT"
  return end.finReceived ? "CLOSE_WAIT" : "ESTABLISHED"
}

const endSnapshot = (end: End): EndSnapshot => ({
  address: end.address,
  state: stateOf(end),
  receiveQueue: end.incoming.bytes,
  sendQueue: end.outgoing.queued,
  unsent: end.outgoing.unsent,
  reading: end.incoming.waiter !== undefined,
  writing: end.outgoing.writers.length,
  retransmitting: end.outgoing.isRetransmitting
})

export const take = (core: Core): Snapshot => ({
  at: core.timeline.now(),
  hosts: [...core.machines.values()].map((machine) => ({
    name: machine.name,
    address: machine.ip,
    isUp: machine.isUp,
    isStalled: machine.isStalled
  })),
  listeners: [...core.gates].map(([key, gate]) => ({
    address: key.replace("\n", ":"),
    queued: gate.queued(),
    backlog: gate.backlog
  })),
  links: [...core.paths.values()].map((path) => ({
    from: path.from,
    to: path.to,
    state: path.isCut ? "cut" : path.hold === undefined ? "open" : "held",
    packets: path.packets,
    bytes: path.bytes,
    held: path.hold?.packets.filter((held) => held.path === path).length ?? 0
  })),
  connections: [...core.connections.values()].map(({ client, id, server }) => ({
    id,
    client: endSnapshot(client),
    server: endSnapshot(server)
  }))
})

/** Columns as wide as they have to be. */
const table = (rows: ReadonlyArray<ReadonlyArray<string | number>>): Array<string> => {
  const cells = rows.map((row) => row.map(String))
  const widths = cells[0].map((_, column) => Math.max(...cells.map((row) => row[column].length)))
  return cells.map((row) => row.map((cell, column) => cell.padEnd(widths[column])).join("  ").trimEnd())
}

const waits = (end: EndSnapshot): string =>
  [
    end.reading ? "reads" : "",
    end.writing > 0 ? `writes (${end.writing})` : "",
    end.retransmitting ? "retransmits" : ""
  ].filter((word) => word !== "").join(", ")

const section = (title: string, lines: ReadonlyArray<string>) => lines.length === 0 ? [] : ["", title, ...lines]

export const format = (snapshot: Snapshot): string => {
  const { at, connections, hosts, links, listeners } = snapshot
  return [
    `network at ${at} ms: ${hosts.length} hosts, ${connections.length} connections`,
    ...section(
      "hosts that are not well",
      hosts.filter((host) => !host.isUp || host.isStalled).map((host) =>
        `${host.name} ${host.isUp ? "stalled" : "down"}`
      )
    ),
    ...section(
      "listeners",
      listeners.map(({ address, backlog, queued }) => `${address} ${queued} of ${backlog} queued`)
    ),
    ...section(
      "links",
      links.map(({ bytes, from, held, packets, state, to }) =>
        `${from} -> ${to} ${state}, ${packets} packets of ${bytes} bytes on their way, ${held} held`
      )
    ),
    ...section(
      "connections",
      connections.length === 0 ? [] : table([
        ["id", "local", "peer", "state", "recv-q", "send-q", "unsent", "waits"],
        ...connections.flatMap(({ client, id, server }) =>
          [[client, server], [server, client]].map(([end, peer]) => [
            id,
            end.address,
            peer.address,
            end.state,
            end.receiveQueue,
            end.sendQueue,
            end.unsent,
            waits(end)
          ])
        )
      ])
    )
  ].join("\n")
}
