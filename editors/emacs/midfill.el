;;; midfill.el --- Inline code completion from a local model  -*- lexical-binding: t; -*-

;; Version: 0.1.0
;; Package-Requires: ((emacs "29.1"))
;; Keywords: convenience, languages, tools
;; SPDX-License-Identifier: Apache-2.0

;;; Commentary:

;; Ghost text from the midfill language server, which must be on your PATH.
;;
;;     (add-to-list 'load-path "~/src/midfill/editors/emacs")
;;     (require 'midfill)
;;     (global-midfill-mode)
;;
;; While a suggestion is shown: TAB takes all of it, M-f its next word, C-e its
;; line, M-n and M-p choose another, C-g dismisses it.  Everywhere else these
;; keys do what they always do.  M-x midfill-suggest asks by hand, and
;; M-x midfill-diagnose says why nothing is suggested.
;;
;; A buffer that eglot serves with midfill is served over eglot's connection.
;; Any other buffer, also one that eglot serves with another server, is served
;; over one connection that all of them share.  To let eglot know midfill, for
;; languages that it has no other server for:
;;
;;     (with-eval-after-load 'eglot (require 'midfill-eglot))
;;
;; lsp-mode 10 has ghost text of its own.  To see midfill's there:
;;
;;     (with-eval-after-load 'lsp-mode (require 'midfill-lsp))

;;; Code:

(require 'cl-lib)
(require 'subr-x)
(require 'midfill-server)

(defcustom midfill-idle-delay 0.1
  "Seconds without a key after which a suggestion is asked for."
  :group 'midfill
  :type 'number)

(defface midfill-ghost '((t :inherit shadow :slant italic))
  "Face of suggested text."
  :group 'midfill)

(defvar-keymap midfill-ghost-map
  :doc "Keys while a suggestion is shown, and only then."
  "TAB" #'midfill-accept
  "<tab>" #'midfill-accept
  "<remap> <forward-word>" #'midfill-accept-word
  "<remap> <move-end-of-line>" #'midfill-accept-line
  "<remap> <keyboard-quit>" #'midfill-dismiss
  "M-n" #'midfill-next
  "M-p" #'midfill-previous)

(declare-function eglot--TextDocumentIdentifier "eglot")
(declare-function eglot--pos-to-lsp-position "eglot")
(declare-function eglot--lsp-position-to-point "eglot")
(declare-function eglot-managed-p "eglot")
(defvar quail-overlay)
(defvar midfill-mode)


;;;; What is shown

(cl-defstruct midfill--item
  "A suggestion: TEXT belongs at START, of which a beginning may be there."
  text start end command)

(defvar-local midfill--items nil "Suggestions to choose from, best first.")
(defvar-local midfill--index 0 "Which of them is shown.")
(defvar-local midfill--overlays nil "What draws it.")
(defvar-local midfill--active nil "Non-nil while a suggestion is shown.")
(defvar-local midfill--told nil "The id of what the server knows to be shown.")
(defvar-local midfill--seen nil "Tick and point after the last command.")
(defvar-local midfill--timer nil "Runs when a suggestion is to be asked for.")

(add-to-list 'emulation-mode-map-alists
             `((midfill--active . ,midfill-ghost-map)))

(defun midfill--current ()
  "Return the item that is shown or could be."
  (nth midfill--index midfill--items))

(defun midfill--rest (item)
  "Return what of ITEM is not in the buffer yet, nil where text disagrees."
  (let ((start (marker-position (midfill--item-start item)))
        (text (midfill--item-text item)))
    (when (and (<= (point-min) start (point)))
      (let ((typed (buffer-substring-no-properties start (point))))
        (and (string-prefix-p typed text)
             (< (length typed) (length text))
             (substring text (length typed)))))))

(defun midfill--id (item)
  "Return what the server knows ITEM by."
  (let ((arguments (plist-get (midfill--item-command item) :arguments)))
    (and (length> arguments 0) (plist-get (elt arguments 0) :id))))

(defun midfill--hide ()
  "Take the suggestion off the screen, but remember it."
  (mapc #'delete-overlay midfill--overlays)
  (setq midfill--overlays nil
        midfill--active nil))

(defun midfill--forget ()
  "Take the suggestion off the screen for good."
  (midfill--hide)
  (setq midfill--items nil
        midfill--index 0))

(defun midfill--draw (at string)
  "Show STRING as ghost text before the character AT."
  ;; Behind what an input method inserts while it composes a character.
  (let ((overlay (make-overlay at at nil t t)))
    (setq string (propertize string 'face 'midfill-ghost))
    ;; Without this the cursor would stand behind the ghost text.
    (put-text-property 0 1 'cursor t string)
    (overlay-put overlay 'after-string string)
    (overlay-put overlay 'midfill t)
    (push overlay midfill--overlays)))

(defun midfill--show ()
  "Draw what is left of the current item, or nothing where it does not fit."
  (midfill--hide)
  (when-let* ((item (midfill--current))
              (rest (midfill--rest item)))
    ;; What follows the cursor in its line stays in the first line.
    (let* ((end (if (eolp) nil (string-search "\n" rest)))
           (first (substring rest 0 end)))
      (unless (string-empty-p first)
        (midfill--draw (point) first))
      (when end
        (midfill--draw (line-end-position) (substring rest end))))
    (setq midfill--active t)
    (let ((id (midfill--id item)))
      (unless (equal id midfill--told)
        (setq midfill--told id)
        (midfill--report :midfill/didShow item)))))

(defun midfill--composing-p ()
  "Return non-nil while an input method is in the middle of a character."
  (and (boundp 'quail-overlay) (overlayp quail-overlay)
       (overlay-buffer quail-overlay)
       (overlay-start quail-overlay)))


;;;; Commands

(defun midfill--take (n)
  "Insert the first N characters of what is shown."
  (let* ((item (midfill--current))
         (rest (midfill--rest item))
         (all (= n (length rest)))
         (end (midfill--item-end item)))
    (midfill--hide)
    (undo-boundary)
    (when (and all (> end (point)))
      (delete-region (point) end))
    (insert (substring rest 0 n))
    (undo-boundary)
    (if all
        (progn (midfill--forget)
               (midfill--run (midfill--item-command item)))
      (midfill--report :midfill/didPartiallyAccept item
                       :acceptedLength
                       (midfill--utf-16-length
                        (buffer-substring-no-properties
                         (midfill--item-start item) (point))))
      (midfill--show))))

(defun midfill--utf-16-length (string)
  "Return how many UTF-16 units STRING has."
  (/ (length (encode-coding-string string 'utf-16le)) 2))

(defun midfill--take-match (regexp)
  "Insert what REGEXP matches at the beginning of what is shown."
  (let ((rest (midfill--rest (midfill--current))))
    (midfill--take (if (and (string-match regexp rest) (> (match-end 0) 0))
                       (match-end 0)
                     (length rest)))))

(defun midfill-accept ()
  "Take all of the suggestion."
  (interactive)
  (midfill--take (length (midfill--rest (midfill--current)))))

(defun midfill-accept-word ()
  "Take the suggestion's next word, or its next run of punctuation."
  (interactive)
  (midfill--take-match
   "\\`[[:space:]\n]*\\(?:\\(?:\\sw\\|\\s_\\)+\\|[^[:alnum:]_[:space:]\n]+\\)"))

(defun midfill-accept-line ()
  "Take the suggestion up to its line's end, or its next line."
  (interactive)
  (midfill--take-match "\\`\n?[^\n]*"))

(defun midfill-dismiss ()
  "Take the suggestion off the screen; it is not offered here again."
  (interactive)
  (midfill--report :midfill/didDismiss (midfill--current))
  (midfill--forget))

(defun midfill-next (&optional n)
  "Show the Nth next suggestion; ask for alternatives where there are none."
  (interactive "p")
  (let ((n (or n 1)))
    (if (length> midfill--items 1)
        (midfill--choose n)
      (midfill--ask t (lambda () (midfill--choose n))))))

(defun midfill-previous (&optional n)
  "Show the Nth previous suggestion."
  (interactive "p")
  (midfill-next (- (or n 1))))

(defun midfill--choose (n)
  "Show the suggestion N behind the one that is shown."
  (when midfill--items
    (setq midfill--index (mod (+ midfill--index n) (length midfill--items)))
    (midfill--show)
    (message "Suggestion %d of %d" (1+ midfill--index)
             (length midfill--items))))

(defun midfill-suggest ()
  "Ask for suggestions now."
  (interactive)
  (unless midfill-mode
    (user-error "Turn on midfill-mode first"))
  (midfill--ask t (lambda ()
                    (unless midfill--items (message "No suggestion here")))))

(defun midfill-restart ()
  "Restart the language server that buffers share; the engine stays."
  (interactive)
  (setq midfill--starts nil)
  (midfill--disconnect)
  (midfill--connect))

(defun midfill-restart-engine ()
  "Restart the engine, the process with the model."
  (interactive)
  (midfill--request :midfill/restartEngine (make-hash-table)
                    (lambda (_) (message "The engine starts anew"))))


;;;; Asking

(defun midfill--ask (invoked &optional then)
  "Ask for suggestions here, by hand if INVOKED, and call THEN when they came.
They are shown only if text and cursor are what they were."
  (unless (or (midfill--composing-p) buffer-read-only)
    (midfill--send-changes)
    (when-let* ((server (midfill--server)))
      (let* ((eglot (midfill--eglot-server))
             (here (midfill--here)))
        (midfill--request
         :textDocument/inlineCompletion
         (list :textDocument (list :uri (if eglot
                                            (plist-get
                                             (eglot--TextDocumentIdentifier)
                                             :uri)
                                          (midfill--uri)))
               :position (if eglot
                             (eglot--pos-to-lsp-position)
                           (midfill--position (point)))
               :context (list :triggerKind (if invoked 1 2)))
         (lambda (result)
           (when (and (equal here (midfill--here))
                      (not (midfill--composing-p)))
             (midfill--take-items result eglot)
             (when then (funcall then)))))))))

(defun midfill--here ()
  "Return what a reply's text and cursor must agree with."
  (list (buffer-chars-modified-tick) (point)))

(defun midfill--take-items (result eglot)
  "Show what is in RESULT.  With EGLOT, read positions as eglot does."
  (midfill--forget)
  (setq midfill--items
        (mapcar (lambda (item) (midfill--read-item item eglot))
                (if (vectorp result) result (plist-get result :items))))
  (midfill--show))

(defun midfill--read-item (item eglot)
  "Make a suggestion of LSP's ITEM, with positions of EGLOT's or our own."
  (let* ((range (plist-get item :range))
         (text (plist-get item :insertText))
         (read (if eglot #'eglot--lsp-position-to-point #'midfill--point)))
    (make-midfill--item
     :text (if (stringp text) text (plist-get text :value))
     :start (copy-marker (if range (funcall read (plist-get range :start))
                           (point)))
     ;; Text that is typed before the end pushes it on.
     :end (copy-marker (if range (funcall read (plist-get range :end))
                         (point))
                       t)
     :command (plist-get item :command))))

(add-hook 'midfill--ready-hook #'midfill--schedule)

(defun midfill--schedule ()
  "Ask when nothing has been typed for a moment."
  (when midfill--timer
    (cancel-timer midfill--timer))
  (setq midfill--timer
        (run-with-idle-timer midfill-idle-delay nil #'midfill--on-idle
                             (current-buffer))))

(defun midfill--on-idle (buffer)
  "Ask for a suggestion in BUFFER, if it is still the one that is edited."
  (when (and (buffer-live-p buffer) (eq buffer (current-buffer)))
    (setq midfill--timer nil)
    (midfill--ask nil)))

(defun midfill--post-command ()
  "Keep what is shown in step with text and cursor, and ask for more."
  (let ((here (midfill--here)))
    (unless (equal here midfill--seen)
      (let ((edited (not (eql (car here) (car midfill--seen)))))
        (setq midfill--seen here)
        (midfill--show)
        (when (or edited midfill--items)
          (midfill--schedule))
        (unless midfill--active
          (setq midfill--told nil))))))


;;;; Modes

(defun midfill--lighter ()
  "Return the mode line's word on the server."
  (let ((state (plist-get midfill--status :state))
        (progress (plist-get midfill--status :progress)))
    (concat " midfill"
            (pcase state
              ((or 'nil "ready") "")
              ("engine_down" ":engine down")
              ("disabled" ":off")
              (_ (concat ":" state
                         (and (numberp progress) (< progress 1)
                              ;; Read once more, as a mode line's construct.
                              (format " %d%%%%" (* 100 progress)))))))))

;;;###autoload
(define-minor-mode midfill-mode
  "Show what could be written next as ghost text."
  :group 'midfill
  :lighter (:eval (midfill--lighter))
  (if midfill-mode
      (progn
        (add-hook 'post-command-hook #'midfill--post-command nil t)
        (add-hook 'before-change-functions #'midfill--before-change nil t)
        (add-hook 'after-change-functions #'midfill--after-change nil t)
        (add-hook 'kill-buffer-hook #'midfill--close nil t)
        (setq midfill--seen (midfill--here))
        (unless (executable-find (car midfill-command))
          (message "midfill: `%s' is not on PATH; see M-x midfill-diagnose"
                   (car midfill-command)))
        (midfill--send-changes))
    (remove-hook 'post-command-hook #'midfill--post-command t)
    (remove-hook 'before-change-functions #'midfill--before-change t)
    (remove-hook 'after-change-functions #'midfill--after-change t)
    (remove-hook 'kill-buffer-hook #'midfill--close t)
    (midfill--forget)
    (midfill--close)))

;;;###autoload
(define-globalized-minor-mode global-midfill-mode midfill-mode
  midfill--turn-on
  :group 'midfill
  :predicate '(prog-mode text-mode conf-mode))

(defun midfill--turn-on ()
  "Turn on `midfill-mode' where text is written."
  (unless (or (minibufferp) buffer-read-only)
    (midfill-mode 1)))

;;;###autoload(with-eval-after-load 'eglot (require 'midfill-eglot))
;;;###autoload(with-eval-after-load 'lsp-mode (require 'midfill-lsp))


;;;; When something is wrong

(defun midfill--describe-status (status)
  "Return STATUS as people read it."
  (let ((device (plist-get status :device)) (detail (plist-get status :detail)))
    (concat (plist-get status :state) "; " (plist-get status :model)
            (and (stringp device) (not (string-empty-p device))
                 (format " on %s, %s" device (plist-get status :dtype)))
            (and (stringp detail) (not (string-empty-p detail))
                 (concat "; " detail)))))

(defun midfill-diagnose ()
  "Show what there is, what was chosen and why, in a buffer of its own."
  (interactive)
  (let* ((path (executable-find (car midfill-command)))
         (eglot (midfill--eglot-server))
         (facts
          `(("Emacs" . ,emacs-version)
            ("midfill-mode" . ,(if midfill-mode "on in this buffer"
                                 "off in this buffer: M-x midfill-mode"))
            ("command" . ,(string-join (midfill--serve-command) " "))
            ("found at" . ,(or path "nowhere on PATH: install midfill"))
            ("version" . ,(and path (string-trim (shell-command-to-string
                                                  (concat (shell-quote-argument
                                                           path)
                                                          " --version")))))
            ("connection" . ,(cond (eglot "eglot's, which runs midfill here")
                                   ((and (featurep 'eglot) (eglot-managed-p))
                                    "shared: eglot runs another server here")
                                   (t "shared: eglot does not manage this")))
            ("server" . ,(cond (eglot "running")
                               (midfill--ready "running")
                               (midfill--connection "starting")
                               ((midfill--may-start-p) "not started yet")
                               (t "given up: M-x midfill-restart")))
            ("document" . ,(if (or eglot midfill--open) "open" "not open"))
            ("input method" . ,(or current-input-method "none"))))
         (server (or eglot (and midfill--ready midfill--connection)))
         (answers
          (and server
               (cl-loop for (title method params read) in
                        `(("engine" :midfill/status ,(make-hash-table)
                           midfill--describe-status)
                          ("suggestion" :midfill/why
                           (:textDocument (:uri ,(midfill--uri)))
                           ,(lambda (why) (plist-get why :about))))
                        collect
                        (cons title
                              (condition-case problem
                                  (funcall read (jsonrpc-request
                                                 server method params
                                                 :timeout 3))
                                (error (error-message-string problem))))))))
    (with-help-window "*midfill*"
      (dolist (fact (append facts answers))
        (princ (format "%-14s%s\n" (car fact) (cdr fact)))))))

(provide 'midfill)
;;; midfill.el ends here
