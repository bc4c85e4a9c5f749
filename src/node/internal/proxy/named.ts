/** Makes a connection of Node tell the client that a proxy has named, where only the connection is asked for its peer. */
import type * as Net from "node:net"
import type { Header } from "../../Proxy.ts"

const headers = new WeakMap<object, Header>()

/** What the proxy said of a connection that was named. */
export const headerOf = (conn: object): Header | undefined => headers.get(conn)

const value = (it: unknown): PropertyDescriptor => ({ value: it, configurable: true })

export const name = (conn: Net.Socket, header: Header): void => {
  headers.set(conn, header)
  const { source } = header
  if (source === undefined) return
  const [, host = source, port] = /^\[?([^\]]*?)\]?(?::(\d+))?$/.exec(source) ?? []
  Object.defineProperties(conn, {
    remoteAddress: value(host),
    remotePort: value(port === undefined ? undefined : Number(port)),
    remoteFamily: value(host.includes(":") ? "IPv6" : "IPv4")
  })
}
