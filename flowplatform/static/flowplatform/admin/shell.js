/*
 * What unfold's pages need under a Content-Security-Policy without unsafe-eval, and by keyboard.
 * Not a module: it must be there before Alpine starts.
 */
"use strict";
{
  /** Expressions of unfold's templates that Alpine's CSP build cannot read or the policy forbids, in words that work. */
  const REPHRASED = [
    [/^if \((.*)\) (selectItem\(.*\))$/, "($1) && $2"],
    [/;\s*localStorage\.setItem\(.*\);?\s*$/, ""], // the shell remembers by itself
    [/^'width: ' \+ (\w+) \+ 'px'$/, "{ width: $1 + 'px' }"], // as a text it would be a style attribute
  ];

  /** What a symbol means that is a button; the font shows these names as pictures. */
  const NAMES = {
    dock_to_right: "Show or hide the menu",
    close: "Close the menu",
    more_horiz: "Actions",
    search: "Search",
    unfold_more: "Theme and account",
    more_vert: "Add or change what is chosen here",
    expand_more: "More",
    add: "Add",
    light_mode: "Theme: light",
    dark_mode: "Theme: dark",
    computer: "Theme: as the system",
  };

  const NATIVE = "a[href], button, input, select, textarea, summary, label";
  const CLICKED = "x-on:click";

  window.htmx.config.includeIndicatorStyles = false; // it would write a style element
  window.htmx.config.allowEval = false;

  document.addEventListener("alpine:init", () => {
    for (const name of ["theme", "searchForm", "searchDropdown", "searchCommand"]) Alpine.data(name, window[name]);
    Alpine.data("shell", shellOf(document.body));
    document.body.setAttribute("x-data", "shell");
    document.body.removeAttribute("x-init");
    for (const element of document.querySelectorAll("*")) rephrase(element);
  });

  // Unfold looks at the system's theme once; people whose system changes by the hour would have to reload.
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    const root = Alpine.$data(document.documentElement);
    if (root.adminTheme !== "auto") return;
    root.adminTheme = "light";
    root.adminTheme = "auto";
  });

  document.addEventListener("DOMContentLoaded", () => {
    for (const symbol of document.querySelectorAll(".material-symbols-outlined")) nameSymbol(symbol);
    for (const element of document.querySelectorAll(`[${CSS.escape(CLICKED)}]`)) makeButton(element);
    nameInlines(document);
    for (const region of document.querySelectorAll("#changelist-filter")) {
      region.setAttribute("role", "dialog");
      region.setAttribute("aria-label", "Filters");
    }
  });

  document.addEventListener("formset:added", (event) => nameInlines(event.target));

  // Django's and select2's own scripts have made their fields by then.
  window.addEventListener("load", () => {
    setTimeout(() => {
      for (const picked of document.querySelectorAll(".select2-container")) nameSelect2(picked);
      for (const tip of document.querySelectorAll(".help-tooltip[aria-label]")) tip.setAttribute("role", "img");
    });
  });

  /** Fields of a table have their names in its head only. */
  function nameInlines(root) {
    for (const field of root.querySelectorAll("[data-label] :is(input:not([type=hidden]), select, textarea)")) {
      const named = field.labels?.length || field.getAttribute("aria-label");
      if (!named) field.setAttribute("aria-label", field.closest("[data-label]").dataset.label);
    }
  }

  function nameSelect2(container) {
    const field = container.previousElementSibling;
    const name = field?.labels?.[0]?.textContent.replace("*", "").trim() || field?.getAttribute("aria-label") || "Choice";
    for (const part of container.querySelectorAll(".select2-selection, .select2-selection__rendered")) {
      const said = part.matches(".select2-selection") ? part.textContent.trim() : "";
      part.removeAttribute("aria-labelledby");
      part.setAttribute("aria-label", said ? `${name}: ${said}` : name);
    }
    if (field && !field.dataset.named) {
      field.dataset.named = "yes";
      window.django?.jQuery(field).on("change", () => nameSelect2(container));
    }
  }

  /** The state of unfold's body, which its template gives as an expression with arrows and globals. */
  function shellOf(body) {
    const tab = /activeTab: '([^']*)'/.exec(body.getAttribute("x-data"))?.[1] ?? "";
    return () => ({
      activeTab: tab,
      sidebarMobileOpen: false,
      sidebarDesktopOpen: (localStorage.getItem("sidebarDesktopOpen") ?? "1") === "1",
      window: { location: { pathname: location.pathname, search: location.search } },
      init() {
        this.activeTab = window.getCurrentTab() || tab;
        this.$watch("sidebarDesktopOpen", (open) => localStorage.setItem("sidebarDesktopOpen", open ? "1" : "0"));
      },
    });
  }

  function rephrase(element) {
    for (const { name, value } of [...element.attributes]) {
      if (!name.startsWith("x-")) continue;
      const text = REPHRASED.reduce((words, [from, to]) => words.replace(from, to), value);
      if (text !== value) element.setAttribute(name, text);
    }
  }

  function nameSymbol(symbol) {
    const clicked = symbol.closest(`[${CSS.escape(CLICKED)}], button, a`);
    const meaning = NAMES[symbol.textContent.trim()];
    if (clicked && meaning && !clicked.getAttribute("aria-label")) {
      const words = clicked.textContent.trim() === symbol.textContent.trim();
      if (words) clicked.setAttribute("aria-label", meaning);
    }
    if (clicked !== symbol) symbol.setAttribute("aria-hidden", "true");
  }

  /** Make what only a mouse can press a button of the keyboard too. */
  function makeButton(element) {
    if (element.matches(NATIVE) || element.querySelector(NATIVE) || !element.textContent.trim()) return;
    element.setAttribute("role", "button");
    element.tabIndex = 0;
    element.addEventListener("keydown", (event) => {
      if (event.target !== element || (event.key !== "Enter" && event.key !== " ")) return;
      event.preventDefault();
      element.click();
    });
  }
}
