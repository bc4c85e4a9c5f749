/** Where the page begins. */
import { render } from "preact"
import { Page } from "./app.tsx"
import { follow, makeApi } from "./model/api.ts"
import { makeModel } from "./model/model.ts"
import { setTheme, themeNow } from "./parts/theme.ts"

/** How often a change is drawn at most, in milliseconds: a person reads no faster. */
const drawEvery = 200

let drawnAt = -Infinity

/** In a frame; a page that is not seen has none, and is drawn when it is seen. */
const later = (run: () => void): void => {
  setTimeout(
    () =>
      requestAnimationFrame((now) => {
        drawnAt = now
        run()
      }),
    Math.max(0, drawnAt + drawEvery - performance.now())
  )
}

setTheme(themeNow())
const model = makeModel(later)
const api = makeApi(() => model.setLink("locked"))
const root = document.querySelector("#page")!
root.textContent = ""
render(<Page model={model} api={api} />, root)
follow(model, api)
