/** A request to upgrade, as the application sees it before the answer. */
import * as Effect from "effect/Effect"
import * as Cookies from "effect/http/Cookies"
import * as Headers from "effect/http/Headers"
import type * as Http from "node:http"
import * as Address from "../addresses/address.ts"
import { type Certificate, clientCertificate } from "./certificate.ts"

/**
 * What a peer asked for.
 *
 * **Gotchas**
 *
 * All of it is the peer's word, but for the addresses and the certificate. A page in a browser chooses `url` and `subprotocols`;
 * the browser adds `cookies` and the header `origin`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Request {
  /** `GET`, of a request to upgrade. */
  readonly method: string
  /** The path and the query, as they were sent: `/live?room=1`. Of a request with a whole URL, these parts of it. */
  readonly url: string
  /** The path alone, as it was sent: `/live`. */
  readonly path: string
  readonly query: URLSearchParams
  /** By their names in lower case. Headers sent twice are joined as Node joins them. */
  readonly headers: Headers.Headers
  /** By their names, decoded. */
  readonly cookies: Readonly<Record<string, string>>
  /** The peer's end, as text: `203.0.113.9:49152`. */
  readonly remote: string | undefined
  /** Our end, as text. */
  readonly local: string | undefined
  /** Whether the connection is under our own TLS. Behind a proxy that ends TLS it is not. */
  readonly isSecure: boolean
  /** The certificate that the peer showed; none is asked for unless the server has the option `ca`. */
  readonly certificate: Certificate | undefined
  /** The WebSocket subprotocols that the peer offers, those it likes best first. */
  readonly subprotocols: ReadonlyArray<string>
  /** The one of them that was agreed to: in a hook by `agree`, afterwards by `agree` or the option `subprotocols`. */
  readonly subprotocol: string | undefined
}

/**
 * A request that is not answered yet.
 *
 * @category models
 * @since 0.1.0
 */
export interface Asking extends Request {
  /**
   * Agrees to one of the subprotocols that are offered. Without it, the first one of the option `subprotocols` that is
   * offered is taken, or none.
   *
   * One that is not offered is a mistake in the program: it dies with a `RangeError`, and the peer gets 500.
   */
  readonly agree: (subprotocol: string) => Effect.Effect<void>
  /** The request of Node. It is not kept once the peer is answered. */
  readonly source: Http.IncomingMessage
}

/** What is known of the connection below a request. */
export interface Below {
  /** Told of the request, before the rest of this is asked for. */
  readonly onRequest?: ((request: Http.IncomingMessage) => void) | undefined
  readonly remote: string | undefined
  readonly local: string | undefined
  /** It has to wait for its turn: then `onTurn` is called. */
  readonly mustWait?: boolean | undefined
  onTurn?: (() => void) | undefined
  /** Why the server takes no connection, or not this one: said in place of the 101. Asked at every look. */
  readonly refusal?: string | undefined
  /** Told of an answer that is no 101. */
  readonly answered?: ((status: number) => void) | undefined
}

/** The elements of a header that is a list (RFC 9110, 5.6.1). */
export const listed = (header: string | undefined): ReadonlyArray<string> =>
  (header ?? "").split(",").map((one) => one.trim()).filter((one) => one !== "")

/** The path and the query. A proxy may send the whole URL (RFC 9112, 3.2.2). */
const targetOf = ({ url = "" }: Pick<Http.IncomingMessage, "url">): string =>
  url.startsWith("/") ? url : url.replace(/^https?:\/\/[^/?#]+\/?/i, "/")

export const pathOf = (head: Pick<Http.IncomingMessage, "url">): string => targetOf(head).split("?", 1)[0]

/** What is kept of the request of Node, which is four times as large. */
interface Head extends Pick<Http.IncomingMessage, "method" | "url" | "socket"> {
  readonly headers: Http.IncomingHttpHeaders | Headers.Headers
}

/** Reads only what is asked for: most hooks look at one header. */
export class Asked implements Asking {
  readonly remote: string | undefined
  readonly local: string | undefined
  subprotocol: string | undefined
  private head: Head
  private headersRead: Headers.Headers | undefined
  private cookiesRead: Readonly<Record<string, string>> | undefined
  private queryRead: URLSearchParams | undefined
  private certificateRead: { readonly found: Certificate | undefined } | undefined

  constructor(source: Http.IncomingMessage, below: Partial<Below> = {}, headers?: Headers.Headers) {
    this.head = source
    this.remote = below.remote ?? Address.remoteOf(source.socket)
    this.local = below.local ?? Address.localOf(source.socket)
    this.headersRead = headers
  }

  get source(): Http.IncomingMessage {
    return this.head as Http.IncomingMessage
  }

  /** It is answered. */
  settle(): void {
    const { headers, method, socket, url } = this.head
    // once, where they were asked for
    this.head = { method, url, headers: this.headersRead ?? headers, socket }
  }

  get method(): string {
    return this.head.method ?? ""
  }

  get url(): string {
    return targetOf(this.head)
  }

  get path(): string {
    return pathOf(this.head)
  }

  get query(): URLSearchParams {
    return this.queryRead ??= new URLSearchParams(this.url.slice(this.path.length))
  }

  get headers(): Headers.Headers {
    return this.headersRead ??= Headers.fromInput(this.head.headers)
  }

  get cookies(): Readonly<Record<string, string>> {
    return this.cookiesRead ??= Cookies.parseHeader(this.headers["cookie"] ?? "")
  }

  get isSecure(): boolean {
    return "encrypted" in this.head.socket
  }

  get certificate(): Certificate | undefined {
    this.certificateRead ??= { found: clientCertificate(this.head.socket) }
    return this.certificateRead.found
  }

  get subprotocols(): ReadonlyArray<string> {
    return listed(this.head.headers["sec-websocket-protocol"] as string | undefined)
  }

  get agree(): Asking["agree"] {
    return (subprotocol) =>
      Effect.suspend(() => {
        if (!this.subprotocols.includes(subprotocol)) {
          return Effect.die(
            new RangeError(`the subprotocol ${JSON.stringify(subprotocol)} is not one that was offered`)
          )
        }
        this.subprotocol = subprotocol
        return Effect.void
      })
  }
}
