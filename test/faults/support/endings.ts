/** How the end of a connection is read from what the command says, at either end. */
import type { Outcome, Row } from "../fault.ts"
import type { Program } from "./Program.ts"
import type { Pair, Stage } from "./Stage.ts"
import { sleep, until } from "./until.ts"

/** What `connect` says of each reason; it is told for people. What the peer says of its own reason comes after `by the peer`. */
const sentences: ReadonlyArray<readonly [RegExp, string]> = [
  [/^by the peer/, "Closed"],
  [/^the peer sent nothing for/, "SilenceTimeout"],
  [/^the peer took none of our bytes/, "WriteStalled"],
  [/^reset by the peer/, "Reset"],
  [/^the transport failed/, "TransportFailed"]
]

/** The reason in a line of `connect` about its connection. */
const clientReason = (line: string): string | undefined => {
  const said = /^(?:lost|closed|holdfast|no connection): (.*)$/.exec(line)?.[1]
  return said === undefined ? undefined : sentences.find(([sentence]) => sentence.test(said))?.[1] ?? said
}

/** A line of `serve --log json`. */
export const logged = (line: string): Readonly<Record<string, unknown>> | undefined =>
  line.startsWith("{") ? JSON.parse(line) as Record<string, unknown> : undefined

/** The reason in a line of `serve --log json`; of a client at this address, where one is given. */
const serverReason = (line: string, address?: string): string | undefined => {
  const fields = logged(line)
  if (fields === undefined || (address !== undefined && fields.address !== address)) return undefined
  return fields.event === "close" || fields.event === "refused" ? String(fields.reason) : undefined
}

/** Waits until an end has said that its connection is over, and for how long after `since` that took. */
const ending = async (
  program: Program,
  read: (line: string) => string | undefined,
  since: number,
  deadline: number
): Promise<Outcome> => {
  let line: ReturnType<typeof program.find<string>>
  const end = since + deadline * 1000
  while ((line = program.find(read, since)) === undefined && performance.now() < end) await sleep(10)
  return line === undefined
    ? { reason: "still open", seconds: (performance.now() - since) / 1000 }
    : { reason: line.found, seconds: (line.at - since) / 1000 }
}

/** How much longer than its bound an end is looked at. */
const patience = 3

export const serverEnding = (program: Program, since: number, row: Row, address?: string): Promise<Outcome> =>
  ending(program, (line) => serverReason(line, address), since, row.atMost + patience)

export const clientEnding = (program: Program, since: number, row: Row): Promise<Outcome> =>
  ending(program, clientReason, since, row.atMost + patience)

/** Both ends of each pair end as their rows say. */
export const bothEnd = (
  stage: Stage,
  pairs: ReadonlyArray<Pair>,
  since: number,
  rows: { readonly server?: Row; readonly client?: Row }
): Promise<unknown> =>
  Promise.all(pairs.flatMap(({ client, server, way }) => [
    rows.server === undefined
      ? undefined
      : serverEnding(server, since, rows.server).then((outcome) => stage.saw(rows.server!, way, outcome)),
    rows.client === undefined
      ? undefined
      : clientEnding(client, since, rows.client).then((outcome) => stage.saw(rows.client!, way, outcome))
  ]))

let words = 0

/** Nothing has ended since, and an echo goes round. */
export const lives = async ({ client, server }: Pair, since: number): Promise<Outcome> => {
  const ended = server.find((line) => serverReason(line), since) ?? client.find(clientReason, since)
  if (ended !== undefined) return { reason: ended.found, seconds: (ended.at - since) / 1000 }
  const word = `still here ${++words}`
  const asked = performance.now()
  client.say(`${word}\n`)
  try {
    await client.says("an echo", (line) => line === word ? true : undefined, { since: asked, deadline: 3_000 })
  } catch {
    return { reason: "no echo", seconds: (performance.now() - asked) / 1000 }
  }
  return { reason: "lives", seconds: (performance.now() - asked) / 1000 }
}

/** The client has a connection again. */
export const isBack = async (client: Program, since: number, deadline: number): Promise<Outcome> => {
  try {
    const { at } = await client.says("connected again", (line) => line.startsWith("connected ") ? true : undefined, {
      since,
      deadline: deadline * 1000
    })
    return { reason: "back", seconds: (at - since) / 1000 }
  } catch {
    return { reason: "away", seconds: deadline }
  }
}

/** Waits until nothing is said for a moment: what set the pair up is over. */
export const quiet = async (...programs: ReadonlyArray<Program>): Promise<void> =>
  until(
    () => "quiet",
    () => programs.every(({ lines }) => lines.length === 0 || lines.at(-1)!.at < performance.now() - 300)
  )
