/** What a browser shows that is refused: a small page that says what to do. Programs get JSON. */
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import type { Asked, Verdict } from "./guard.ts"

type Refused = Extract<Verdict, { readonly _tag: "Refuse" }>

const openIt = "Open the address that the program printed at its start, with its token: " +
  "<code>admin http://127.0.0.1:7900/?token=…</code>, from <code>holdfast serve</code> or the log of the program. "

const titles: Readonly<Record<string, readonly [title: string, what: string]>> = {
  NoToken: [
    "A token is needed",
    `${openIt}Where the token was given to the program, add it: <code>/?token=TOKEN</code>.`
  ],
  WrongToken: [
    "This is another token",
    `The program may have started again since: it makes a new token each time, unless it is given one. ${openIt}`
  ],
  ForeignHost: [
    "This name is not known here",
    "Use the IP address of the server, or <code>localhost</code>; or name the host in <code>hosts</code> of the admin options."
  ],
  ForeignOrigin: [
    "A page of another site asked",
    "This server answers pages of its own alone. Open its address in a tab of its own."
  ]
}

// texts of ours alone: nothing of the request is in it
const page = (error: string): string => {
  const [title, what] = titles[error] ?? titles["NoToken"]!
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Holdfast: ${title}</title>
</head>
<body>
<main>
<h1>${title}</h1>
<p>${what}</p>
<p>This is the admin server of a program that uses Holdfast. Programs send <code>Authorization: Bearer TOKEN</code>.</p>
</main>
</body>
</html>
`
}

/** As a page for those who ask for one, and as JSON for all others. */
export const refusal = (
  { headers }: Asked,
  { error, message, status }: Refused
): HttpServerResponse.HttpServerResponse => {
  const response = /\btext\/html\b/i.test(headers["accept"] ?? "")
    ? HttpServerResponse.text(page(error), { status, contentType: "text/html; charset=utf-8" })
    : HttpServerResponse.jsonUnsafe({ _tag: error, message }, { status })
  return status === 401 ? HttpServerResponse.setHeader(response, "www-authenticate", "Bearer") : response
}
