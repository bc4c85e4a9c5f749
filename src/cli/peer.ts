/** The peer that `connect` and `probe` talk to: its address, its certificates, its protocol. */
import * as Argument from "effect/cli/Argument"
import * as CliError from "effect/cli/CliError"
import * as Flag from "effect/cli/Flag"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import type * as ConnectionError from "../ConnectionError.ts"
import { aDuration, lacksUnit, needsUnit } from "../internal/limits/definition.ts"
import { causeCode, causeText } from "../internal/reasons/text.ts"
import * as Dialer from "../node/Dialer.ts"
import { OnWaiting } from "../node/internal/tls/consent.ts"
import type * as Policy from "../Policy.ts"
import { parseDuration } from "../Policy.ts"
import { CommandFailed } from "./CommandFailed.ts"
import { textOf } from "./files.ts"
import { isSecure } from "./listenFlags.ts"
import { nativeBelow } from "./policyFlags.ts"
import { progress } from "./progress.ts"
import { proxyFlag } from "./proxyFlags.ts"
import { type Name, protocols, spokenAt } from "./speech.ts"

/** A PEM file. */
export const file = (name: string, description: string) =>
  Flag.String(name).pipe(Flag.withMetavar("FILE"), Flag.withDescription(description), Flag.optional)

/** A duration that is not part of a policy, not less than the minimum. */
export const duration = (name: string, otherwise: string, description: string, minimum = 0) =>
  Flag.String(name).pipe(
    Flag.withMetavar("DURATION"),
    Flag.withDescription(`${description} (default ${otherwise})`),
    Flag.withDefault(otherwise),
    Flag.mapEffect((text) => {
      const read = parseDuration(text)
      return Option.isSome(read) && Duration.toMillis(read.value) >= minimum && !lacksUnit(text)
        ? Effect.succeed(Duration.toMillis(read.value))
        : Effect.fail(
          new CliError.InvalidValue({
            option: name,
            value: text,
            expected: lacksUnit(text)
              ? needsUnit(text)
              : `${aDuration}${minimum === 0 ? "" : `, at least ${minimum} ms`}`,
            kind: "flag"
          })
        )
    })
  )

/** A whole number, not less than the minimum. */
export const whole = (name: string, otherwise: number, minimum: number, description: string) =>
  Flag.String(name).pipe(
    Flag.withMetavar("N"),
    Flag.withDescription(`${description} (default ${otherwise})`),
    Flag.withDefault(String(otherwise)),
    Flag.mapEffect((text) =>
      /^\d{1,9}$/.test(text) && Number(text) >= minimum
        ? Effect.succeed(Number(text))
        : Effect.fail(
          new CliError.InvalidValue({
            option: name,
            value: text,
            expected: `a whole number, at least ${minimum}`,
            kind: "flag"
          })
        )
    )
  )

export const url = Argument.String("url").pipe(
  Argument.withMetavar("URL"),
  Argument.withDescription(
    "Where to: tcp://HOST:PORT, tls://HOST:PORT, unix:///PATH, ws://HOST:PORT/PATH, wss://HOST:PORT/PATH; native+tcp://HOST:PORT " +
      "speaks another protocol there than --protocol says"
  )
)

export const peerFlags = {
  protocol: Flag.Literals("protocol", protocols).pipe(
    Flag.withDescription(
      "What is spoken where the URL does not say it. lines: text ended by a newline, with ping and pong; frames: text behind a 4-byte big-endian length; " +
        "native: text in Holdfast's own protocol (default lines)"
    ),
    Flag.withDefault("lines" as const)
  ),
  ca: file("ca", "Whom to trust (tls, wss) instead of the usual authorities, PEM"),
  cert: file("cert", "Our certificate for a server that asks for one, PEM"),
  key: file("key", "Private key of --cert, PEM"),
  servername: Flag.String("servername").pipe(
    Flag.withMetavar("NAME"),
    Flag.withDescription("The name to ask for and to find in the server's certificate, instead of the URL's"),
    Flag.optional
  ),
  insecure: Flag.Boolean("insecure").pipe(
    Flag.withoutNegation,
    Flag.withDescription("Take any certificate, such as a self-signed one; a machine in between can read along"),
    Flag.withDefault(false)
  ),
  proxy: proxyFlag,
  deflate: Flag.Boolean("deflate").pipe(
    Flag.withoutNegation,
    Flag.withDescription("Offer to compress the messages of a WebSocket (permessage-deflate) (default off)"),
    Flag.withDefault(false)
  ),
  followRedirects: whole(
    "follow-redirects",
    0,
    0,
    "How many times to go where the server of a WebSocket sends us; to another origin without --cert; 0 follows none"
  )
}

interface DialFlags {
  readonly protocol: Name
  readonly ca: Option.Option<string>
  readonly cert: Option.Option<string>
  readonly key: Option.Option<string>
  readonly servername: Option.Option<string>
  readonly insecure: boolean
  readonly proxy: Option.Option<string>
  readonly deflate: boolean
  readonly followRedirects: number
}

/** Where to, and how: what is spoken is said by the URL, or by `--protocol`. */
export const peerOf = <Given extends DialFlags>(text: string, given: Given) =>
  Effect.map(spokenAt(text, "cannot dial"), ({ protocol = given.protocol, url }) => ({ url, ...given, protocol }))

/** Makes a fresh socket each time; what is wrong with the URL or a certificate is told here, and only here. */
export const dialer = Effect.fnUntraced(function*(
  { url, ...given }: DialFlags & { readonly url: string },
  policy: Policy.Policy
) {
  const secure = isSecure(url)
  const options: Dialer.DialOptions = {
    ...(secure
      ? {
        ca: yield* textOf("--ca", given.ca),
        cert: yield* textOf("--cert", given.cert),
        key: yield* textOf("--key", given.key),
        servername: Option.getOrUndefined(given.servername),
        rejectUnauthorized: !given.insecure
      }
      : {}),
    proxy: Option.getOrUndefined(given.proxy),
    deflate: given.deflate,
    followRedirects: given.followRedirects,
    policy: given.protocol === "native" ? nativeBelow(policy) : policy
  }
  const dial = Dialer.make(url, options)
  yield* Effect.mapError(dial, (error) =>
    new CommandFailed({
      // its options are flags here
      message: error.message.replace(/`(cert|key|ca|proxy)`/g, "--$1")
    }))
  return Effect.orDie(dial)
})

/** Says that a dialler waits for what the server says to our certificate. */
export const sayWaiting = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.provideService(
    effect,
    OnWaiting,
    Effect.sync(() => progress.above(() => console.error("waiting for the server's answer")))
  )

type Refused = ConnectionError.CertificateRefused

/** What to do about a certificate that is not accepted. */
const certificateAdvice: Record<Refused["by"], Partial<Record<Refused["problem"], string>>> = {
  local: {
    expired: "its certificate has expired: the server needs a new one",
    notYetValid: "its certificate is not valid yet: is the clock of this machine right?",
    wrongName: "its certificate is for another name: use that one in the URL, or name it with --servername",
    untrusted: "its certificate is signed by an authority that is not trusted here: name that one with --ca",
    revoked: "its certificate was revoked: the server needs a new one"
  },
  peer: {
    missing: "the server asks for a certificate of ours: give one with --cert and --key",
    expired: "the server does not accept our certificate, which has expired: --cert needs a new one"
  }
}

const ofCertificate = ({ by, cause, problem }: Refused): string => {
  const told = by === "local" && /SELF_SIGNED_CERT/.test(causeCode(cause) ?? "")
    ? "its certificate is self-signed, which proves nothing: name it with --ca, or take any certificate with --insecure"
    : certificateAdvice[by][problem] ?? (by === "local"
      ? "its certificate is not accepted here"
      : "the server does not accept our certificate: is --cert signed by an authority that it trusts?")
  return `${told} (${causeText(cause)})`
}

/** What Node and OpenSSL say, as a sentence that says what to do. The first that matches the code or the text is told. */
const advice: ReadonlyArray<readonly [pattern: RegExp, sentence: string]> = [
  [
    /wrong.version.number|packet.length.too.long|http.request|unexpected.message|record.layer/i,
    "the peer does not answer in TLS: is it a port for tcp or ws, and not for tls or wss?"
  ],
  [
    /before secure TLS connection was established/,
    "the peer ended the connection before there was TLS: is it a port for tcp or ws, and not for tls or wss?"
  ],
  [/unsupported.protocol|alert.protocol.version/i, "the peer and we have no version of TLS in common"],
  [/handshake.failure|no.shared.cipher/i, "the peer and we could not agree on how to speak TLS"],
  [/HPE_|Parse Error/, "the peer does not speak HTTP, with which a WebSocket begins: is it a port for ws?"],
  [/SSL routines|ERR_SSL_/, "TLS failed"],
  [/ETIMEDOUT/, "nothing answered in time: is it the right address, and may we reach it?"],
  [/ENOTFOUND|EAI_AGAIN/, "the name has no address: is it written as it should be?"],
  [/ENOENT/, "there is no such socket: does the server run?"],
  [/EACCES/, "we may not use it"]
]

/** Bytes of a peer that are no frames or messages of the protocol. */
const isForeign = (reason: ConnectionError.Reason): boolean =>
  ((reason._tag === "InvalidMessage" && reason.format !== "DEFLATE") || reason._tag === "InvalidLength" ||
    reason._tag === "FrameTooLong") &&
  reason.direction === "decode"

/** Why, as the end of a sentence: what to do about it, and what Node or OpenSSL says of it behind that. */
export const because = ({ message, reason }: ConnectionError.ConnectionError): string => {
  const text = message.replace(/^could not open the connection: /, "").replace(/^closed by /, "by ")
  if (isForeign(reason)) return `the peer speaks another protocol than --protocol says (${text})`
  if (!("cause" in reason) || reason._tag === "HandshakeFailed") return text
  if (reason._tag === "CertificateRefused") return ofCertificate(reason)
  const known = `${causeCode(reason.cause) ?? ""} ${causeText(reason.cause)}`
  const sentence = advice.find(([pattern]) => pattern.test(known))?.[1]
  return sentence === undefined ? text : `${sentence} (${text})`
}
