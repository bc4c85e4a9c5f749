/** Light, dark, or as the system has it. */

const choices = ["auto", "light", "dark"] as const

export type Theme = (typeof choices)[number]

const name = "holdfast-theme"

// a browser may forbid to keep anything
const kept = (): string | null => {
  try {
    return localStorage.getItem(name)
  } catch {
    return null
  }
}

export const themeNow = (): Theme => choices.find((choice) => choice === kept()) ?? "auto"

export const setTheme = (theme: Theme): void => {
  if (theme === "auto") delete document.documentElement.dataset.theme
  else document.documentElement.dataset.theme = theme
  try {
    localStorage.setItem(name, theme)
  } catch {
    // it lasts as long as the page
  }
}

export const themeAfter = (theme: Theme): Theme => choices[(choices.indexOf(theme) + 1) % choices.length]!

/** A colour of the style sheet, as it is in this theme. */
export const colour = (variable: string): string => {
  const probe = document.createElement("i")
  probe.style.color = `var(${variable})`
  document.body.append(probe)
  const { color } = getComputedStyle(probe)
  probe.remove()
  return color
}
