// The list of alerts as it is now: the server says that something changed, and the page is read again.
const list = document.querySelector('[data-live]');
let reading = false;
let again = false;

const read = async () => {
  if (reading) {
    again = true;
    return;
  }
  reading = true;
  do {
    again = false;
    const answer = await fetch(location.href, { headers: { accept: 'text/html' } }).catch(() => null);
    // Who is signed out is shown so when they next press something.
    if (answer === null || !answer.ok || answer.redirected) break;
    const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
    const fresh = page.querySelector('[data-live]');
    if (fresh !== null && fresh.innerHTML !== list.innerHTML) show(fresh);
  } while (again);
  reading = false;
};

// Whoever stands on a button stays there.
const show = (fresh) => {
  const held = document.activeElement?.closest('form')?.getAttribute('action');
  list.replaceChildren(...fresh.childNodes);
  if (held) list.querySelector(`form[action="${CSS.escape(held)}"] button`)?.focus();
};

const source = new EventSource(list.dataset.live);
source.addEventListener('open', read);
source.addEventListener('change', read);
