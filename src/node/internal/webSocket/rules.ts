/** The options of a server about upgrades, checked: what holds on each of its paths. */
import * as Result from "effect/Result"
import type * as Http from "node:http"
import type { Options, Rules as Stated, Upgrade } from "../../Upgrade.ts"
import { type Deflating, deflatingOf } from "../deflate/options.ts"
import { type Answer, isToken, isWellFormed, refusalOf } from "../upgrade/form.ts"
import { type OriginRule, originRule } from "../upgrade/origins.ts"
import { pathOf } from "../upgrade/request.ts"

/** What holds on one path. */
export interface Rule<out R> {
  /** Undefined: each request is let in. */
  readonly upgrade: Upgrade<unknown, R> | undefined
  readonly isAllowed: OriginRule
  /** The first that is offered is agreed to. */
  readonly subprotocols: ReadonlyArray<string>
  readonly deflate: Deflating | undefined
}

export type Rules<R> = ReadonlyMap<string, Rule<R>>

/** Why a request cannot become a WebSocket under these rules, before its origin and its hook are asked. */
export const refusalBy = (rules: Rules<unknown>, request: Http.IncomingMessage): Answer | undefined => {
  if (!isWellFormed(request)) return { status: 400 }
  return rules.has(pathOf(request)) ? refusalOf(request) : { status: 404 }
}

/** Whether WebSockets can be on it. */
export const isPath = (path: string): boolean => /^\/[^?#]*$/.test(path)

const ruleOf = <R>(
  upgrade: Upgrade<unknown, R> | undefined,
  { deflate: compresses, origins, subprotocols = [] }: Stated
): Result.Result<Rule<R>, string> =>
  Result.gen(function*() {
    const odd = subprotocols.find((one) => !isToken(one))
    if (odd !== undefined) {
      return yield* Result.fail(`\`subprotocols\` has ${JSON.stringify(odd)}, which is no token of HTTP`)
    }
    const isAllowed = yield* originRule(origins)
    return { upgrade, isAllowed, subprotocols, deflate: yield* deflatingOf(compresses) }
  })

/** What holds on a path: its own word, or that of the server. */
const statedOn = (own: Stated | undefined, server: Stated): Stated => ({
  origins: own?.origins ?? server.origins,
  subprotocols: own?.subprotocols ?? server.subprotocols,
  deflate: own?.deflate ?? server.deflate
})

/** The rules of a server with a path of its own (`home`), and others. The failure is what is wrong. */
export const rulesOf = <R>(
  home: string | undefined,
  server: Options<R>
): Result.Result<Rules<R>, string> =>
  Result.gen(function*() {
    const { paths = {}, upgrade } = server
    const rules = new Map<string, Rule<R>>()
    if (home !== undefined) rules.set(home, yield* ruleOf(upgrade, statedOn(upgrade, server)))
    for (const [path, one] of Object.entries(paths)) {
      if (!isPath(path)) {
        return yield* Result.fail(
          `\`paths\` has ${JSON.stringify(path)}: a path starts with a slash and has no ? and no #`
        )
      }
      if (rules.has(path)) {
        return yield* Result.fail(`\`paths\` has ${path}, which is the path of the server: give it as \`upgrade\``)
      }
      rules.set(path, yield* ruleOf(one, statedOn(one, server)))
    }
    return rules
  })
