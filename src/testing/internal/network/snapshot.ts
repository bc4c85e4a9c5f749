/** What a network looks like at one moment, and how to print it. */
import type { EndSnapshot, Snapshot } from "../../Network.ts"
import type { TcpStack } from "../tcp/connection.ts"
import type { Endpoint } from "../tcp/endpoint.ts"

const stateOf = (end: Endpoint): EndSnapshot["state"] => {
  if (end.isGone) return "GONE"
  if (end.phase === "over") return "CLOSED"
  if (end.phase === "opening") return end.isPassive ? "CLOSED" : "SYN_SENT"
  if (end.onHandshakeAck !== undefined) return "SYN_RECV"
  if (end.outgoing.isFinished) return end.finReceived ? "LAST_ACK" : "FIN_WAIT"
  return end.finReceived ? "CLOSE_WAIT" : "ESTABLISHED"
}

const endSnapshot = (end: Endpoint): EndSnapshot => ({
  address: end.address,
  state: stateOf(end),
  receiveQueue: end.incoming.bytes,
  sendQueue: end.outgoing.queued,
  unsent: end.outgoing.unsent,
  reading: end.incoming.waiter !== undefined,
  writing: end.outgoing.writers.length,
  retransmitting: end.outgoing.transmission.isRetransmitting
})

/** The network at this moment. */
export const take = ({ connections, listeners, topology }: TcpStack): Snapshot => ({
  at: topology.timeline.now(),
  hosts: [...topology.hosts.values()].map((host) => ({
    name: host.name,
    address: host.ip,
    isUp: host.isUp,
    isStalled: host.isStalled
  })),
  listeners: [...listeners].map(([key, listener]) => ({
    address: key.replace("\n", ":"),
    queued: listener.queued(),
    backlog: listener.backlog
  })),
  links: [...topology.paths.values()].map((path) => ({
    from: path.from,
    to: path.to,
    state: path.isCut ? "cut" : path.hold === undefined ? "open" : "held",
    packets: path.packets,
    bytes: path.bytes,
    held: path.hold?.packets.filter((held) => held.path === path).length ?? 0
  })),
  connections: [...connections.values()].map(({ client, id, server }) => ({
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

/** Lines below a title; none without lines. */
export const section = (title: string, lines: ReadonlyArray<string>): ReadonlyArray<string> =>
  lines.length === 0 ? [] : ["", title, ...lines]

/** Prints it as `netstat` would. */
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
